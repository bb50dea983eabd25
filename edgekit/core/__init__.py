"""What every other room builds on: schemas, artefacts, contracts, the registry, the store and the error tree."""
