//! `quern parquet-reader`: what `quern serve` starts to read one file of Parquet in. Takes no part in
//! the command line's ways otherwise.

use anyhow::Result;

/// Read a file of Parquet for the server that started this; of no use to people
#[derive(Debug, clap::Args)]
pub(crate) struct ParquetReader {}

/// Reads until the file ends, or the server wants no more. To be called before there is any other
/// thread.
pub(crate) fn run() -> Result<()> {
    Ok(quern_parquet::run_parquet_reader()?)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use crate::arguments::Arguments;

    #[test]
    fn the_command_is_the_one_that_a_server_starts() {
        let command = Arguments::command();
        assert!(command.find_subcommand(quern_parquet::READER_COMMAND).is_some());
    }
}
