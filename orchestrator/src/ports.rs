//! Which ports a deployment may use: pure allocation over a node's leases.
