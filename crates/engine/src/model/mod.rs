//! A model is a directory as the Hugging Face hub and sentence-transformers lay it out; its name is the
//! directory's name and its identity the hash of the files that are read.

mod add;
mod catalog;
mod encoder;
mod files;
mod format;
mod golden;
mod hash;
mod modules;
mod precision;
mod revision;
mod settings;

pub use add::{AddError, AddOptions, Added, add};
pub use catalog::{Catalog, Entry};
pub use encoder::{Activation, Architecture, DISTANCE_BUCKETS, EncoderShape, Positions};
pub use files::{Fingerprint, ModelDir};
pub use format::{describe_format, weigh};
pub use golden::Golden;
pub(crate) use hash::hex;
pub use hash::model_hash;
pub use modules::{DenseActivation, DenseLayer, Pooling, Step};
pub use precision::Precision;
pub use revision::{ModelHash, Revision};
pub use settings::{ModelSettings, SAFETENSORS, Weights};
