//! What is said about a few rounds: their median, and how far they lie apart.

use serde::Serialize;

/// The median of a figure over rounds, with its lowest and highest value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Over all `values`; `None` if there are none, or one that is not a number.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        if values.iter().any(|value| !value.is_finite()) {
            return None;
        }
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) };
        Some(Self { median, min, max })
    }

    /// Whether there is anything to show: a proxy that is not there uses no CPU.
    pub(crate) fn is_positive(&self) -> bool {
        self.max > 0.0
    }

    /// Of the ratios `ours / theirs`, each within its round: what slows the machine down for a minute slows both, and cancels out.
    pub(crate) fn of_ratios(ours: &[f64], theirs: &[f64]) -> Option<Self> {
        Self::of(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_odd_number_is_the_middle_one() {
        assert_eq!(Spread::of([30.0, 10.0, 20.0]), Some(Spread { median: 20.0, min: 10.0, max: 30.0 }));
    }

    #[test]
    fn the_median_of_an_even_number_is_halfway() {
        assert_eq!(Spread::of([1.0, 4.0, 2.0, 3.0]).map(|spread| spread.median), Some(2.5));
    }

    #[test]
    fn no_rounds_have_no_spread() {
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn ratios_are_formed_within_a_round() {
        let spread = Spread::of_ratios(&[50.0, 5.0, 30.0], &[100.0, 10.0, 60.0]);
        assert_eq!(spread, Some(Spread { median: 0.5, min: 0.5, max: 0.5 }));
    }

    #[test]
    fn a_ratio_to_nothing_is_not_a_number() {
        assert_eq!(Spread::of_ratios(&[1.0], &[0.0]), None);
        assert_eq!(Spread::of_ratios(&[0.0], &[0.0]), None);
    }
}
