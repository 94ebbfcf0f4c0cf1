//! Models with bf16, where they can be had.

use std::io::Write;
use std::process::Command;

use crate::account::output;
use crate::golden;
use crate::installation::Installation;

/// The name that [`add`] gives.
pub const MODEL: &str = "all-MiniLM-L6-v2-bf16";

/// Whether models with bf16 can be had here. If not, says which test is left out and why.
pub fn can_be_had(test: &str) -> bool {
    let reason = if !multiplies_bf16() {
        "the processor has no AVX512_BF16"
    } else if !Installation::under_test().openvino().is_dir() {
        "the optional runtime is not installed (scripts/download openvino)"
    } else {
        return true;
    };
    // Not by a macro, whose output is kept from the one who runs the tests.
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {reason}");
    false
}

/// Whether the processor does.
pub fn multiplies_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Adds the product's model with bf16 to an installation.
pub fn add(installation: &Installation) {
    let mut command = Command::new(installation.engine());
    command.args(["model", "add", "--precision", "bf16", "--name", MODEL]);
    output(command.arg(installation.model(golden::MODEL)));
}
