//! A bench in sections, each of which can be measured by itself with `--only NAME`.

use std::env;

use anyhow::{Result, bail, ensure};
use tokio::signal;

/// Measures the sections that the command line asks for, one after the other.
pub(crate) async fn measure(
    sections: &[&'static str],
    section: impl AsyncFn(&'static str) -> Result<()>,
) -> Result<()> {
    let all = async {
        let only = only(sections)?;
        for &name in sections {
            if only.as_deref().is_none_or(|only| only == name) {
                eprintln!("== {name}");
                section(name).await?;
            }
        }
        Ok(())
    };
    tokio::select! {
        measured = all => measured,
        // Peers are in groups of their own, which a signal to ours does not reach.
        interrupted = signal::ctrl_c() => {
            interrupted?;
            bail!("interrupted")
        }
    }
}

/// The section that the command line names, if any.
fn only(sections: &[&str]) -> Result<Option<String>> {
    let mut arguments = env::args().skip_while(|argument| argument != "--only").skip(1);
    let only = arguments.next();
    if let Some(name) = &only {
        ensure!(sections.contains(&name.as_str()), "--only takes one of {sections:?}");
    }
    Ok(only)
}
