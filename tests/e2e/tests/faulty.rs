//! Servers whose engine has faults, for tests that need them on demand.

use std::path::Path;

use vector_embed_e2e::cluster::Cluster;
use vector_embed_e2e::installation::Installation;

/// An installation with the faulty engine.
pub(crate) fn installation() -> Installation {
    let installation = Installation::copy();
    installation.install_engine(Path::new(env!("CARGO_BIN_EXE_faulty_engine")));
    installation
}

/// A server of it.
pub(crate) fn cluster() -> Cluster {
    Cluster::with().installation(&installation()).uncached().start()
}
