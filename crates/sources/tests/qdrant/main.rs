//! Qdrant: a local store that the real qdrant-client wrote, and a server.
//!
//! The server is a substitute, `tests/qdrant/server.py`: a real one cannot be had on the machines that run this. It
//! answers by qdrant-client's own models, and the real `QdrantClient(url=...)` reads it
//! (`the_real_client_takes_the_substitute_for_a_server`).

mod failures;
mod reading;
mod secrets;
mod support;
