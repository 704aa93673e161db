//! Servers that requests go to: of HTTP, written out by each test, and of names.

use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use hickory_resolver::proto::{
    op::{Message, ResponseCode},
    rr::{RData, Record, RecordType},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::mpsc,
};

/// A listening server that counts its connections.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl Server {
    /// Serves each connection with `serve`.
    pub(crate) async fn start<F>(
        address: impl Into<SocketAddr>,
        serve: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address.into()).await.expect("a free port");
        let address = listener.local_addr().expect("is bound");
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream));
            }
        });
        Self { address, accepted }
    }

    /// Answers every request with the same bytes, and keeps its connections open.
    pub(crate) async fn answering(
        address: impl Into<SocketAddr>,
        answer: impl Into<Arc<str>>,
    ) -> Self {
        let answer = answer.into();
        Self::start(address, move |mut stream| {
            let answer = answer.clone();
            async move {
                while read_head(&mut stream).await.is_some() {
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        break;
                    }
                }
            }
        })
        .await
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Any port of 127.0.0.1.
pub(crate) fn local() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// A response with a body.
pub(crate) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// The head of the next request; none if the client has left.
pub(crate) async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).expect("text"))
}

/// Everything that the client sends until it leaves.
pub(crate) async fn read_rest(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut rest = Vec::new();
    // A reset is an end, too.
    let _ = stream.read_to_end(&mut rest).await;
    rest
}

/// Writes until the client has had enough.
pub(crate) async fn write_forever(stream: &mut (impl AsyncWrite + Unpin)) {
    let piece = vec![b'x'; 16_384];
    while stream.write_all(&piece).await.is_ok() {}
}

/// A channel on which a server tells what it has seen.
pub(crate) fn channel<T>() -> (mpsc::UnboundedSender<T>, mpsc::UnboundedReceiver<T>) {
    mpsc::unbounded_channel()
}

/// What a server of names answers.
pub(crate) enum Answer {
    Addresses(Vec<Ipv4Addr>),
    Code(ResponseCode),
    Silence,
}

/// A server of names, over UDP. Nothing it answers may be kept.
pub(crate) struct Nameserver {
    pub(crate) address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Nameserver {
    /// Answers the n-th question for an IPv4 address, counted from 0, by `answer`.
    pub(crate) async fn start(answer: impl Fn(usize) -> Answer + Send + 'static) -> Self {
        let socket = UdpSocket::bind(local()).await.expect("a free port");
        let address = socket.local_addr().expect("is bound");
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 4_096];
            while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
                let question = Message::from_vec(&buffer[..length]).expect("a question");
                let query = question.queries.first().expect("one question");
                let answer = if query.query_type() == RecordType::A {
                    answer(count.fetch_add(1, Ordering::SeqCst))
                } else {
                    answer(usize::MAX)
                };
                if let Some(reply) = reply(&question, &answer) {
                    socket.send_to(&reply, client).await.expect("is sent");
                }
            }
        });
        Self { address, asked }
    }

    /// How often an IPv4 address was asked for.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn reply(question: &Message, answer: &Answer) -> Option<Vec<u8>> {
    let query = question.queries.first()?;
    let mut reply = Message::response(question.metadata.id, question.metadata.op_code);
    reply.metadata.recursion_desired = true;
    reply.metadata.recursion_available = true;
    reply.add_query(query.clone());
    match answer {
        Answer::Silence => return None,
        Answer::Code(code) => reply.metadata.response_code = *code,
        Answer::Addresses(addresses) if query.query_type() == RecordType::A => {
            for address in addresses {
                let data = RData::A((*address).into());
                reply.add_answer(Record::from_rdata(query.name().clone(), 0, data));
            }
        }
        Answer::Addresses(_) => {}
    }
    Some(reply.to_vec().expect("fits"))
}
