"""The mathematics, on modules and arrays; knows no recipe and no file format."""
