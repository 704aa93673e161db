//! Slow connections over HTTP/2, as the kernel has them: a socket that is read from slowly.

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
};

use super::*;
use crate::uptake::Pieces;

/// Streams of the connection, and pieces of the answer of each.
const STREAMS: u8 = 48;
const PIECES: usize = 32;
/// Bytes that the kernel keeps on either side, of which it makes twice as many: a few pieces.
const KEPT: u32 = 64 << 10;
/// A connection that takes a piece in so long takes longer for one of each stream than it may for one.
const PAUSE: Duration = Duration::from_millis(100);
const WRITE_STALL: Duration = Duration::from_secs(2);
/// Pieces that are read slowly, for longer than that: what is wrong by then stays so.
const SLOW: usize = 25;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A frame (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// Serves one connection, whose answers are all alike.
async fn serve(socket: TcpStream) {
    let limits = EdgeLimits { write_stall: WRITE_STALL, ..EdgeLimits::default() };
    let service = service_fn(async |_| {
        let answer = Full::new(Bytes::from(vec![0; PIECES * PIECE]));
        Ok::<_, Infallible>(Response::new(Pieces::new(answer, true)))
    });
    // It ends when its client leaves, which may be an error.
    let _ = protocols(&limits).serve_connection(TokioIo::new(socket), service).await;
}

/// A connection to such a server, neither end of which keeps more than a little.
async fn connect() -> TcpStream {
    let listening = TcpSocket::new_v4().expect("a socket");
    listening.set_send_buffer_size(KEPT).expect("can be set");
    listening.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    let listener = listening.listen(1).expect("listens");
    let client = TcpSocket::new_v4().expect("a socket");
    client.set_recv_buffer_size(KEPT).expect("can be set");
    let client = client.connect(listener.local_addr().expect("bound")).await.expect("connects");
    let (socket, _) = listener.accept().await.expect("accepts");
    tokio::spawn(serve(socket));
    client
}

#[tokio::test]
async fn a_slow_connection_with_wide_windows_gets_all_of_its_answers() {
    let mut client = connect().await;
    let wide = 1_u32 << 30;
    let [a, b, c, d] = wide.to_be_bytes();
    let mut asked = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    asked.extend(frame(SETTINGS, 0, 0, &[0, 4, a, b, c, d]));
    asked.extend(frame(WINDOW_UPDATE, 0, 0, &wide.to_be_bytes()));
    for number in 0..STREAMS {
        // Method GET, scheme http and path / (RFC 7541, appendix A).
        let head = [0x82, 0x86, 0x84];
        asked.extend(frame(HEADERS, END_STREAM | END_HEADERS, 2 * number + 1, &head));
    }
    client.write_all(&asked).await.expect("sent");

    let (mut taken, mut ended, mut frames) = (0, 0, 0);
    let reading = async {
        while ended < STREAMS {
            let mut head = [0; 9];
            client.read_exact(&mut head).await.expect("the connection goes on");
            let [_, more, less, kind, flags, .., stream] = head;
            let mut payload = vec![0; usize::from(more) << 8 | usize::from(less)];
            client.read_exact(&mut payload).await.expect("the whole frame");
            if kind == DATA {
                taken += payload.len();
                frames += 1;
                ended += flags & END_STREAM;
                if frames < SLOW {
                    tokio::time::sleep(PAUSE).await;
                }
            }
            let is_expected = [DATA, HEADERS, SETTINGS, WINDOW_UPDATE].contains(&kind);
            assert!(is_expected, "a frame of kind {kind} ends stream {stream}");
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reading).await.expect("they end");
    assert_eq!(taken, usize::from(STREAMS) * PIECES * PIECE);
}
