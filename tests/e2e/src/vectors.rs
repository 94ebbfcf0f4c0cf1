//! Comparing vectors.

/// What vectors of one text have at least in common, computed alone or among others: they are equal.
pub const EQUAL: f64 = 0.999_999;

/// What a vector has at least in common with the reference implementation's.
pub const TRUE_TO_REFERENCE: f64 = 0.999_99;

/// The cosine of the angle between two vectors.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "vectors of one length are compared");
    let dot =
        |x: &[f32], y: &[f32]| -> f64 { x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum() };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The largest difference between two numbers at one place.
pub fn max_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "vectors of one length are compared");
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// The length of a vector.
pub fn norm(vector: &[f32]) -> f64 {
    vector.iter().map(|number| f64::from(*number).powi(2)).sum::<f64>().sqrt()
}

/// Fails unless `vector` is what `text` has, to the given cosine.
pub fn assert_close(text: &str, vector: &[f32], expected: &[f32], least: f64) {
    let cosine = cosine(vector, expected);
    let shown: String = text.chars().take(60).collect();
    assert!(cosine >= least, "cosine {cosine:.9} < {least} for the text {shown:?}");
}
