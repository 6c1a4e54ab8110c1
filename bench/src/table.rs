//! Medians and quartiles, printed as rows.

use std::time::Duration;

/// Samples of one contender.
#[derive(Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, duration: Duration) {
        self.0.push(duration.as_secs_f64() * 1000.0);
    }

    pub(crate) fn extend(&mut self, millis: impl IntoIterator<Item = f64>) {
        self.0.extend(millis);
    }

    /// The value below which this share of the samples lies, in milliseconds.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        sorted
            .get((last as f64 * share).round() as usize)
            .copied()
            .unwrap_or(f64::NAN)
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// One row: name, median, quartiles, ratio to a floor.
    pub(crate) fn row(&self, name: &str, floor: Option<&Samples>) -> String {
        let ratio = floor
            .map(|floor| format!("{:6.2}x", self.median() / floor.median()))
            .unwrap_or_default();
        let (low, high) = (self.quantile(0.25), self.quantile(0.75));
        format!(
            "{name:<44} {:>8.1} ms  [{low:>7.1} – {high:>7.1}]  {ratio}",
            self.median()
        )
    }
}
