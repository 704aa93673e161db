//! What an operator has changed and the server could not take, so that it goes on with what it had
//! before: one of the sources of its health. It decides nothing.

use std::sync::atomic::{AtomicBool, Ordering};

use quern_types::{Concern, HealthSource};

/// Something that an operator has to see to. The server goes on with what it had before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The certificate or its key was changed, and can't be used.
    Certificate,
    /// The configuration was to be read again, and can't be used.
    Configuration,
    /// A successor was to take over, and did not come up.
    Restart,
}

impl Trouble {
    const ALL: [Self; 3] = [Self::Certificate, Self::Configuration, Self::Restart];
    const CODES: [&'static str; Self::ALL.len()] = ["certificate", "configuration", "restart"];

    fn concern(self) -> Concern {
        let what = match self {
            Self::Certificate => "the certificate or its key has changed, and can't be used",
            Self::Configuration => "the configuration was to be read again, and has a mistake",
            Self::Restart => "a successor was to take over, and did not come up",
        };
        let detail = format!("{what}: the server's log says why");
        Concern { code: Self::CODES[self as usize], detail }
    }
}

/// The troubles that there are.
#[derive(Debug, Default)]
pub(crate) struct Troubles([AtomicBool; Trouble::ALL.len()]);

impl Troubles {
    pub(crate) fn set(&self, trouble: Trouble, is_there: bool) {
        self.0[trouble as usize].store(is_there, Ordering::Relaxed);
    }
}

impl HealthSource for Troubles {
    fn codes(&self) -> &'static [&'static str] {
        &Trouble::CODES
    }

    fn concerns(&self) -> Vec<Concern> {
        let all = Trouble::ALL.into_iter().zip(&self.0);
        let there = all.filter(|(_, is_there)| is_there.load(Ordering::Relaxed));
        there.map(|(trouble, _)| trouble.concern()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn troubles_come_and_go() {
        let troubles = Troubles::default();
        let there = || troubles.concerns().iter().map(|concern| concern.code).collect::<Vec<_>>();
        assert!(there().is_empty());
        for (position, (trouble, code)) in
            Trouble::ALL.into_iter().zip(troubles.codes()).enumerate()
        {
            assert_eq!(trouble as usize, position, "the tables are in the enum's order");
            troubles.set(trouble, true);
            troubles.set(trouble, true);
            assert_eq!(there(), [*code]);
            troubles.set(trouble, false);
        }
        assert!(there().is_empty());
    }
}
