//! Sends images to a function and measures how long the answers take. Every answer is checked.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use http::{HeaderMap, HeaderValue, Method};
use reqwest::Url;
use tokio::task::JoinSet;

use super::{Image, Reading};
use crate::{client::Client, output};

/// Connections over which images are sent at the same time.
const CONNECTIONS: usize = 16;
/// Requests that are sent over them together.
const REQUESTS: usize = 4_000;

/// How long requests took.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) connections: usize,
    /// Ascending, and at least one.
    latencies: Vec<Duration>,
    elapsed: Duration,
}

impl Load {
    /// The measurements of at least one request.
    pub(super) fn new(connections: usize, mut latencies: Vec<Duration>, elapsed: Duration) -> Self {
        assert!(!latencies.is_empty(), "nothing was measured");
        latencies.sort_unstable();
        Self { connections, latencies, elapsed }
    }

    pub(super) fn p50(&self) -> Duration {
        self.percentile(50)
    }

    pub(super) fn p99(&self) -> Duration {
        self.percentile(99)
    }

    /// Requests per second.
    pub(super) fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// The smallest latency that so many percent of the requests did not exceed.
    fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.latencies.len() * percent).div_ceil(100);
        self.latencies[rank.saturating_sub(1)]
    }
}

/// Sends one image and checks that the answer is one.
pub(super) async fn send(client: &Client, target: &Url, image: &Image) -> Result<Reading> {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("image/png"));
    let body = image.png.clone().into();
    let response = client.call(Method::POST, target.clone(), headers, body).await?;
    let status = response.status();
    let body = response.bytes().await.context("the answer broke off")?;
    ensure!(
        status.is_success(),
        "digit-reader answered {status}: {}",
        String::from_utf8_lossy(&body)
    );
    let reading: Reading = serde_json::from_slice(&body).context("digit-reader's answer")?;
    let sum: f64 = reading.probabilities.iter().sum();
    ensure!(
        reading.probabilities.len() == 10 && (sum - 1.0).abs() < 1e-3,
        "digit-reader's probabilities are not those of ten digits: {:?}",
        reading.probabilities
    );
    Ok(reading)
}

/// Sends requests over several connections, going round the images; each must be answered with
/// its expected label.
pub(super) async fn many(
    client: &Client,
    target: &Url,
    images: &[Image],
    expected: &[u8],
) -> Result<Load> {
    let progress = output::count_progress(REQUESTS as u64, format!("{CONNECTIONS} connections"));
    let cases: Vec<(Image, u8)> = images.iter().cloned().zip(expected.iter().copied()).collect();
    let (cases, next) = (Arc::new(cases), Arc::new(AtomicUsize::new(0)));
    let mut senders = JoinSet::new();
    let begun = Instant::now();
    for _ in 0..CONNECTIONS {
        let (client, target, progress) = (client.clone(), target.clone(), progress.clone());
        let (cases, next) = (Arc::clone(&cases), Arc::clone(&next));
        senders.spawn(async move {
            let mut latencies = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= REQUESTS {
                    return Ok::<_, anyhow::Error>(latencies);
                }
                let (image, expected) = &cases[number % cases.len()];
                let started = Instant::now();
                let reading = send(&client, &target, image).await?;
                latencies.push(started.elapsed());
                ensure!(reading.label == *expected, "an image was answered in two ways");
                progress.inc(1);
            }
        });
    }
    let mut latencies = Vec::with_capacity(REQUESTS);
    while let Some(sender) = senders.join_next().await {
        latencies.extend(sender??);
    }
    let load = Load::new(CONNECTIONS, latencies, begun.elapsed());
    progress.finish_and_clear();
    Ok(load)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_latencies() {
        let load = |count: u64| {
            let latencies = (1..=count).rev().map(Duration::from_millis).collect();
            Load::new(1, latencies, Duration::from_secs(2))
        };
        assert_eq!(load(100).p50(), Duration::from_millis(50));
        assert_eq!(load(100).p99(), Duration::from_millis(99));
        assert_eq!(load(1).p99(), Duration::from_millis(1));
        assert_eq!(load(360).p99(), Duration::from_millis(357));
        assert_eq!(load(100).rate(), 50.0);
    }
}
