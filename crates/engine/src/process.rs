//! What is set up for the whole process before it has a second thread.

/// Keeps ONNX Runtime from writing to the user's home and from looking for its maker's servers, and panics from
/// writing what they were about, which may be a piece of text, to the server's log.
///
/// To be called first in `main`.
#[allow(unsafe_code)]
pub(crate) fn keep_to_itself() {
    // SAFETY: the process has one thread yet, so nobody reads the environment meanwhile.
    unsafe { std::env::set_var("ORT_DISABLE_TELEMETRY", "1") };
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(String::new, |place| format!(" at {place}"));
        eprintln!("vector_embed_engine: panic{place}");
    }));
}
