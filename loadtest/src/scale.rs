//! What ten thousand, a million and fifty million families would need: a reckoning, and a simulation that checks it where it can.
//!
//! Owns: writing the tables of `docs/scale.md` from `docs/scale.toml`. Refuses to know: servers; nothing is started.

mod inputs;
mod model;
mod page;
mod simulation;

use std::path::PathBuf;

/// What to reckon with, and where to write it.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The figures.
    #[arg(long, default_value = "docs/scale.toml")]
    inputs: PathBuf,
    /// The page whose tables are made anew.
    #[arg(long, default_value = "docs/scale.md")]
    page: PathBuf,
}

/// Why nothing was reckoned.
#[derive(Debug, thiserror::Error)]
pub enum ScaleError {
    #[error("the figures can't be read")]
    Inputs(#[from] toml::de::Error),
    #[error("a page or the figures' file")]
    Io(#[from] std::io::Error),
}

/// Writes the page.
///
/// # Errors
/// [`ScaleError`].
pub fn run(options: &Options) -> Result<(), ScaleError> {
    let (inputs, figures) = inputs::read(&std::fs::read_to_string(&options.inputs)?)?;
    let page = std::fs::read_to_string(&options.page)?;
    std::fs::write(&options.page, page::written(&page, &inputs, &figures))?;
    println!("{} is made anew", options.page.display());
    Ok(())
}

#[cfg(test)]
mod tests;
