//! Guests that take the processor.

use crate::{
    row::{Ends, Row},
    siege,
};

const CPU: Ends = Ends::Error { status: 504, code: "cpu-time-exceeded", limit: Some("cpu") };

#[tokio::test]
async fn whoever_takes_the_processor_is_stopped_at_the_limit() {
    siege::besiege(&[
        Row::new("endless_loop", "computes forever, without a host call", CPU),
        Row::new("endless_host_calls", "asks for the time forever", CPU),
        Row::new("endless_waits", "makes the host poll what is over, forever", CPU),
        Row::new(
            "recursion",
            "calls itself until the stack is full",
            Ends::Error { status: 500, code: "trap", limit: None },
        ),
    ])
    .await;
}
