//! Whether requests wait for others to leave with them.
//!
//! A connection that has something to send may first let the worker look at what its other sockets have brought. That costs as much as a
//! fifth of a GET, which many clients get back several times over, and a lone one never: who waited in vain many times does so rarely.

/// What waiting has brought of late.
pub(super) struct Company {
    /// How many requests there were when others were given their turn.
    before: Option<usize>,
    /// How many more times in a row to wait in vain; below zero, how many more times not to wait.
    patience: i32,
}

impl Default for Company {
    fn default() -> Self {
        Self { before: None, patience: PATIENCE }
    }
}

impl Company {
    /// Whether others have their turn before `gathered` requests are sent. Those that have waited are sent.
    pub(super) fn is_awaited(&mut self, gathered: usize) -> bool {
        if let Some(before) = self.before.take() {
            self.patience = match self.patience - 1 {
                _ if gathered > before => PATIENCE,
                0 => -PAUSE,
                patience => patience,
            };
            return false;
        }
        if !(1..ENOUGH).contains(&gathered) {
            return false;
        }
        if self.patience < 0 {
            self.patience += 1;
            return false;
        }
        self.patience = self.patience.max(1);
        self.before = Some(gathered);
        true
    }
}

/// So many requests leave at once: little would be saved, and the shard had better begin.
const ENOUGH: usize = 32;

/// How many times in a row to wait in vain, and how many times not to wait then.
const PATIENCE: i32 = 16;
const PAUSE: i32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `sends` sends of one request wait, where so many `others` come meanwhile.
    fn waits(company: &mut Company, sends: usize, others: usize) -> usize {
        (0..sends).filter(|_| company.is_awaited(1) && !company.is_awaited(1 + others)).count()
    }

    #[test]
    fn who_waits_in_vain_soon_does_so_rarely_until_somebody_comes() {
        let mut company = Company::default();
        assert_eq!(waits(&mut company, 100, 1), 100);
        assert_eq!(waits(&mut company, 16 + 65 * 10, 0), 16 + 10);
        assert_eq!(waits(&mut company, 64, 1), 0);
        assert_eq!(waits(&mut company, 100, 1), 100);
    }

    #[test]
    fn nobody_waits_who_is_many_or_none() {
        let mut company = Company::default();
        assert!(!company.is_awaited(0));
        assert!(!company.is_awaited(ENOUGH));
        assert!(company.is_awaited(ENOUGH - 1));
    }
}
