//! A model is a directory as the Hugging Face hub and sentence-transformers lay it out; its name is the
//! directory's name and its identity the hash of the files that are read.

mod add;
mod catalog;
mod files;
mod hash;
mod revision;
mod settings;

pub use add::{AddError, Added, add};
pub use catalog::{Catalog, Entry};
pub use files::{Fingerprint, ModelDir};
pub(crate) use hash::hex;
pub use hash::model_hash;
pub use revision::{ModelHash, Revision};
pub use settings::{Activation, BertShape, ModelSettings, Pooling, Weights};
