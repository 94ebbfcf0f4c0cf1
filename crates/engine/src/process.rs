//! What concerns the whole process.

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

/// Gives memory that is free back to the system. The allocator keeps what was freed in small pieces, and a model comes
/// and goes in small pieces: without this, three quarters of what all-MiniLM-L6-v2 took stayed when it was unloaded.
pub(crate) fn give_memory_back() {
    // SAFETY: it may be called at any time, by any thread.
    #[cfg(target_env = "gnu")]
    #[allow(unsafe_code)]
    unsafe {
        libc::malloc_trim(0);
    }
}
