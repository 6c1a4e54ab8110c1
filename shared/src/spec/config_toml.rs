//! Config.toml (also Shipwreck.toml): what a repository says of how it is deployed.
