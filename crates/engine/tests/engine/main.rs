//! The engine's tests with the real ONNX Runtime and real models, in one program so that it is linked once.

mod chunks;
mod command_line;
mod directories;
mod golden;
mod hostile;
mod kinds;
mod limits;
mod load;
mod mutations;
mod precision;
mod requests;
mod serving;
mod store;
mod support;
