//! Fails as its input chooses: 0 doesn't, 1 to 5 are the contract's errors, 6 is an error from `?`,
//! 7 panics, and 8 takes longer than anybody waits.

use quern_sdk::{Error, ErrorKind, Inputs, Outputs};

quern_sdk::inference!(fail);

fn fail(inputs: Inputs) -> Result<Outputs, Error> {
    let kind = match inputs.get("choice")?.to_i64()?.as_slice() {
        [0] => return Ok(inputs),
        [1] => ErrorKind::InvalidInput,
        [2] => ErrorKind::NotFound,
        [3] => ErrorKind::Overloaded,
        [4] => ErrorKind::TimedOut,
        [5] => ErrorKind::Internal,
        [6] => {
            "six".parse::<u32>()?;
            return Ok(inputs);
        }
        [8] => {
            std::thread::sleep(std::time::Duration::from_secs(3_600));
            return Ok(inputs);
        }
        _ => panic!("chosen to panic"),
    };
    Err(Error::new(kind, "chosen to fail"))
}
