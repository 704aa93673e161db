//! Load that does not wait for answers: requests are sent when they are due, on a schedule that is
//! the same for every server, and latency counts from when they were due. So a server that stalls
//! is charged with all that would have come meanwhile. Never slows down for anyone.

use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use fastrand::Rng;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, runtime, task::LocalSet, time::sleep};

use super::load::Target;

/// So that every server is sent the same at the same times.
const SEED: u64 = 7;
/// Connections that are open at the same time; a request that finds none waits, and its time runs.
const MOST_CONNECTIONS: usize = 2048;

/// What is offered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offer {
    /// Requests due in a second, in the mean; the times between them are exponential.
    pub(crate) per_second: f64,
    /// The beginning, which is not counted.
    pub(crate) warm_up: Duration,
    /// What is counted after it.
    pub(crate) time: Duration,
    /// An answer that comes later than this is none: the caller has left.
    pub(crate) patience: Duration,
    /// How long the generator waits awake for the next request: a sleeper wakes some ms too late,
    /// but one that is awake takes a core from the servers.
    pub(crate) awake: Duration,
}

/// What became of the requests that were due in the time that counts.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// Successes in a second that came in that time, whenever they were due.
    pub(crate) good_per_second: f64,
    /// Latencies of successes in µs, in order.
    latencies: Vec<f64>,
    pub(crate) offered: usize,
    /// Answered, but not with success.
    pub(crate) refused: usize,
}

impl Outcome {
    /// Successes in time.
    pub(crate) fn answered(&self) -> usize {
        self.latencies.len()
    }

    /// Neither answered in time nor refused.
    pub(crate) fn late(&self) -> usize {
        self.offered.saturating_sub(self.answered() + self.refused)
    }

    /// Latency below which this part of the successes was, in µs; none without successes.
    pub(crate) fn quantile(&self, part: f64) -> Option<f64> {
        let rank = (part * self.latencies.len() as f64).ceil() as usize;
        self.latencies.get(rank.max(1) - 1).copied()
    }
}

/// Offers requests to a target from one thread of its own.
pub(crate) async fn offer(target: &Target, offer: Offer) -> Result<Outcome> {
    let call = Call::to(target)?;
    let measure = move || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, Generator::new(call, offer).run())
    };
    tokio::task::spawn_blocking(measure).await?
}

/// The request, ready to be sent again and again.
struct Call {
    authority: String,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

impl Call {
    fn to(target: &Target) -> Result<Self> {
        let uri: Uri = target.url.parse()?;
        let authority = uri.authority().context("an address")?.to_string();
        let mut headers = HeaderMap::new();
        headers.insert("host", authority.parse()?);
        for (name, value) in target.headers.iter().filter_map(|header| header.split_once(": ")) {
            headers.insert(name.parse::<HeaderName>()?, value.parse::<HeaderValue>()?);
        }
        let body = match &target.body {
            Some(file) => std::fs::read(file)?.into(),
            None => Bytes::new(),
        };
        let uri = uri.path_and_query().context("a path")?.as_str().parse()?;
        Ok(Self { authority, uri, headers, body })
    }

    fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

type Connection = SendRequest<Full<Bytes>>;

/// One offer while it lasts.
struct Generator {
    call: Call,
    offer: Offer,
    start: Instant,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    idle: Vec<Connection>,
    open: usize,
    /// When requests were due that found no connection.
    waiting: VecDeque<Instant>,
    under_way: usize,
    /// When each was due, and when it came.
    successes: Vec<(Instant, Instant)>,
    offered: usize,
    refused: usize,
    /// The first failure to connect.
    failure: Option<anyhow::Error>,
}

impl Generator {
    fn new(call: Call, offer: Offer) -> Rc<Self> {
        let state = RefCell::default();
        Rc::new(Self { call, offer, start: Instant::now(), state })
    }

    async fn run(self: Rc<Self>) -> Result<Outcome> {
        let mut random = Rng::with_seed(SEED);
        let mut due = self.start;
        let end = self.counted_from() + self.offer.time;
        loop {
            let wait = -(1.0 - random.f64()).ln() / self.offer.per_second;
            due += Duration::from_secs_f64(wait);
            if due >= end {
                break;
            }
            self.wait_until(due).await;
            self.send(due);
        }
        while self.state.borrow().under_way > 0 && Instant::now() < end + self.offer.patience {
            sleep(Duration::from_millis(1)).await;
        }
        self.outcome(end)
    }

    fn counted_from(&self) -> Instant {
        self.start + self.offer.warm_up
    }

    async fn wait_until(&self, due: Instant) {
        let left = due.saturating_duration_since(Instant::now());
        if left > self.offer.awake {
            sleep(left - self.offer.awake).await;
        }
        // At least once, so that answers are read even while requests are overdue.
        loop {
            tokio::task::yield_now().await;
            if Instant::now() >= due {
                return;
            }
        }
    }

    /// Sends what is due, over a connection that is idle or a new one.
    fn send(self: &Rc<Self>, due: Instant) {
        let mut state = self.state.borrow_mut();
        if due >= self.counted_from() {
            state.offered += 1;
        }
        let idle = state.idle.pop();
        if idle.is_none() && state.open == MOST_CONNECTIONS {
            state.waiting.push_back(due);
            return;
        }
        state.open += usize::from(idle.is_none());
        state.under_way += 1;
        tokio::task::spawn_local(self.clone().serve(due, idle));
    }

    /// Sends a request, and then those that have waited for a connection.
    async fn serve(self: Rc<Self>, mut due: Instant, idle: Option<Connection>) {
        let connected = match idle {
            Some(connection) => Ok(connection),
            None => self.connect().await,
        };
        let mut connection = match connected {
            Ok(connection) => connection,
            Err(error) => {
                let mut state = self.state.borrow_mut();
                state.failure.get_or_insert(error);
                state.open -= 1;
                state.under_way -= 1;
                return;
            }
        };
        loop {
            let answered = self.exchange(&mut connection).await;
            let mut state = self.state.borrow_mut();
            let now = Instant::now();
            match answered {
                Ok(true) if now <= due + self.offer.patience => state.successes.push((due, now)),
                Ok(false) if due >= self.counted_from() => state.refused += 1,
                _ => {}
            }
            let usable = answered.is_ok() && connection.is_ready();
            // Nobody waits any longer for those that are older.
            state.waiting.retain(|due| now <= *due + self.offer.patience);
            if usable && let Some(next) = state.waiting.pop_front() {
                due = next;
                continue;
            }
            state.under_way -= 1;
            if usable {
                state.idle.push(connection);
            } else {
                state.open -= 1;
            }
            return;
        }
    }

    async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(&self.call.authority).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // It ends with its sender; how it ended shows in the requests.
        tokio::task::spawn_local(async move { drop(connection.await) });
        Ok(sender)
    }

    /// Whether the answer is a success.
    async fn exchange(&self, connection: &mut Connection) -> Result<bool> {
        connection.ready().await?;
        let response = connection.send_request(self.call.request()).await?;
        let success = response.status().is_success();
        response.into_body().collect().await?;
        connection.ready().await?;
        Ok(success)
    }

    fn outcome(&self, end: Instant) -> Result<Outcome> {
        let mut state = self.state.take();
        if let Some(error) = state.failure.take() {
            return Err(error.context("a connection could not be made"));
        }
        ensure!(state.offered > 0, "nothing was offered");
        let counted = self.counted_from()..=end;
        let in_time = state.successes.iter().filter(|(_, came)| counted.contains(came)).count();
        let due = state.successes.iter().filter(|(due, _)| counted.contains(due));
        let mut latencies: Vec<_> =
            due.map(|(due, came)| came.duration_since(*due).as_secs_f64() * 1e6).collect();
        latencies.sort_by(f64::total_cmp);
        Ok(Outcome {
            good_per_second: in_time as f64 / self.offer.time.as_secs_f64(),
            latencies,
            offered: state.offered,
            refused: state.refused,
        })
    }
}
