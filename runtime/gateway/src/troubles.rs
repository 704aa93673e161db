//! What is wrong with a server that serves all the same, for those who watch over it. It decides
//! nothing.

use prometheus::{IntGauge, IntGaugeVec, Opts, Registry};
use quern_types::{Concern, HealthSource};
use schemars::JsonSchema;
use serde::Serialize;

/// Something that an operator has to see to. The server goes on with what it had before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Trouble {
    /// The certificate or its key was changed, and can't be used.
    Certificate,
    /// The configuration was to be read again, and can't be used.
    Configuration,
    /// A successor was to take over, and did not come up.
    Restart,
}

impl Trouble {
    const ALL: [(Self, &str); 3] = [
        (Self::Certificate, "certificate"),
        (Self::Configuration, "configuration"),
        (Self::Restart, "restart"),
    ];

    /// What it means, for whoever asks how the server is.
    fn detail(self) -> &'static str {
        match self {
            Self::Certificate => "the certificate or its key has changed, and can't be used",
            Self::Configuration => "the configuration was to be read again, and has a mistake",
            Self::Restart => "a successor was to take over, and did not come up",
        }
    }
}

/// The troubles that there are, as metrics.
pub(crate) struct Troubles([IntGauge; Trouble::ALL.len()]);

impl Troubles {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let troubles = IntGaugeVec::new(
            Opts::new("quern_trouble", "1 while an operator has to see to something"),
            &["trouble"],
        )?;
        registry.register(Box::new(troubles.clone()))?;
        Ok(Self(Trouble::ALL.map(|(_, name)| troubles.with_label_values(&[name]))))
    }

    pub(crate) fn set(&self, trouble: Trouble, is_there: bool) {
        self.0[trouble as usize].set(is_there.into());
    }

    /// Those that there are.
    pub(crate) fn list(&self) -> Vec<Trouble> {
        let there = Trouble::ALL.iter().zip(&self.0).filter(|(_, gauge)| gauge.get() != 0);
        there.map(|((trouble, _), _)| *trouble).collect()
    }
}

impl HealthSource for Troubles {
    fn codes(&self) -> &'static [&'static str] {
        &["certificate", "configuration", "restart"]
    }

    fn concerns(&self) -> Vec<Concern> {
        let there = Trouble::ALL.iter().zip(&self.0).filter(|(_, gauge)| gauge.get() != 0);
        let concern = |((trouble, code), _): (&(Trouble, &'static str), _)| Concern {
            code,
            detail: format!("{}: the server's log says why", trouble.detail()),
        };
        there.map(concern).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn troubles_come_and_go() {
        let troubles = Troubles::register(&Registry::new()).expect("registers once");
        assert_eq!(troubles.list(), []);
        for (position, (trouble, name)) in Trouble::ALL.into_iter().enumerate() {
            assert_eq!(trouble as usize, position, "the table is in the enum's order");
            assert_eq!(serde_json::to_value(trouble).expect("a name"), name);
            troubles.set(trouble, true);
            troubles.set(trouble, true);
            assert_eq!(troubles.list(), [trouble]);
            assert_eq!(troubles.concerns()[0].code, troubles.codes()[position]);
            assert_eq!(troubles.codes()[position], name);
            troubles.set(trouble, false);
        }
        assert_eq!(troubles.list(), []);
    }
}
