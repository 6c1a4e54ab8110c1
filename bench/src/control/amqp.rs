//! A minimal AMQP 0-9-1 client, for floors and simulated nodes: what a broker costs with as good as
//! nothing on the client's side. It knows just the frames that it needs, blocks, and never
//! reconnects: a benchmark whose broker goes away has failed.

use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// The largest frame that is asked for, in bytes.
const FRAME_BYTES: u32 = 128 * 1024;

/// What the broker sent.
#[derive(Debug)]
pub(super) enum Received {
    /// A message.
    Delivery {
        channel: u16,
        tag: u64,
        body: Vec<u8>,
    },
    /// Messages up to this number on a channel are safe; without `multiple` only that one.
    Confirmed {
        channel: u16,
        tag: u64,
        multiple: bool,
    },
}

/// A connection with as many channels as are opened.
pub(super) struct Connection {
    reader: BufReader<TcpStream>,
    writer: BufWriter<TcpStream>,
    frame_bytes: usize,
    user: String,
    /// Deliveries whose body has not arrived whole, by channel.
    partial: Vec<Option<Partial>>,
    /// What came while an answer was waited for.
    early: Vec<Received>,
}

struct Partial {
    tag: u64,
    size: usize,
    body: Vec<u8>,
}

struct Frame {
    kind: u8,
    channel: u16,
    payload: Vec<u8>,
}

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
const END: u8 = 0xCE;

impl Connection {
    /// Connects and opens channels 1 to `channels`, with publisher confirms.
    pub(super) fn open(url: &str, channels: u16) -> Result<Self> {
        let url = url::Url::parse(url)?;
        let host = url.host_str().context("a host")?;
        let stream = TcpStream::connect((host, url.port().unwrap_or(5672)))?;
        stream.set_nodelay(true)?;
        let vhost = url.path().trim_start_matches('/').replace("%2f", "/");
        let mut connection = Self {
            reader: BufReader::with_capacity(256 * 1024, stream.try_clone()?),
            writer: BufWriter::with_capacity(256 * 1024, stream),
            frame_bytes: FRAME_BYTES as usize,
            user: url.username().to_owned(),
            partial: Vec::new(),
            early: Vec::new(),
        };
        connection
            .partial
            .resize_with(usize::from(channels) + 1, || None);
        connection.handshake(url.username(), url.password().unwrap_or_default(), &vhost)?;
        for channel in 1..=channels {
            connection.call(channel, Method::new(20, 10).short(""), (20, 11))?;
            connection.call(channel, Method::new(85, 10).byte(0), (85, 11))?;
        }
        Ok(connection)
    }

    /// How long reading may wait; nothing means for ever.
    pub(super) fn read_timeout(&self, timeout: Option<Duration>) -> Result<()> {
        Ok(self.reader.get_ref().set_read_timeout(timeout)?)
    }

    fn handshake(&mut self, user: &str, password: &str, vhost: &str) -> Result<()> {
        self.writer.write_all(b"AMQP\x00\x00\x09\x01")?;
        self.writer.flush()?;
        self.expect((10, 10))?;
        let login = format!("\0{user}\0{password}");
        let start = Method::new(10, 11)
            .table()
            .short("PLAIN")
            .long(&login)
            .short("en_US");
        self.send(0, start)?;
        self.flush()?;
        let tune = self.expect((10, 30))?;
        let offered = u32::from_be_bytes(tune[2..6].try_into()?);
        let frame = if offered == 0 {
            FRAME_BYTES
        } else {
            offered.min(FRAME_BYTES)
        };
        self.frame_bytes = frame as usize;
        // No heartbeats: the operating system tells when a local broker is gone.
        self.send(0, Method::new(10, 31).u16(2047).u32(frame).u16(0))?;
        self.call(
            0,
            Method::new(10, 40).short(vhost).short("").byte(0),
            (10, 41),
        )
    }

    /// Declares a durable quorum queue.
    pub(super) fn declare(&mut self, queue: &str) -> Result<()> {
        let mut arguments = vec![12];
        arguments.extend(b"x-queue-type");
        arguments.push(b'S');
        arguments.extend(6_u32.to_be_bytes());
        arguments.extend(b"quorum");
        let declare = Method::new(50, 10)
            .u16(0)
            .short(queue)
            .byte(0b10)
            .bytes(&arguments);
        self.call(1, declare, (50, 11))
    }

    /// Removes a queue.
    pub(super) fn delete(&mut self, queue: &str) -> Result<()> {
        self.call(1, Method::new(50, 40).u16(0).short(queue).byte(0), (50, 41))
    }

    /// Listens to a queue on a channel, with at most `prefetch` messages unacknowledged.
    pub(super) fn consume(&mut self, channel: u16, queue: &str, prefetch: u16) -> Result<()> {
        self.call(
            channel,
            Method::new(60, 10).u32(0).u16(prefetch).byte(0),
            (60, 11),
        )?;
        let consume = Method::new(60, 20)
            .u16(0)
            .short(queue)
            .short("")
            .byte(0)
            .table();
        self.call(channel, consume, (60, 21))
    }

    /// Publishes a message, not flushed yet. `durable` ones are persistent and mandatory.
    pub(super) fn publish(
        &mut self,
        channel: u16,
        (exchange, key): (&str, &str),
        body: &[u8],
        durable: bool,
    ) -> Result<()> {
        let publish = Method::new(60, 40).u16(0).short(exchange).short(key);
        self.send(channel, publish.byte(u8::from(durable)))?;
        let mut header = Vec::with_capacity(64);
        header.extend(60_u16.to_be_bytes());
        header.extend(0_u16.to_be_bytes());
        header.extend((body.len() as u64).to_be_bytes());
        // Content type, delivery mode, user id.
        header.extend(0b1001_0000_0001_0000_u16.to_be_bytes());
        header.push(16);
        header.extend(b"application/json");
        header.push(1 + u8::from(durable));
        header.push(u8::try_from(self.user.len())?);
        header.extend(self.user.as_bytes());
        self.frame(HEADER, channel, &header)?;
        for part in body.chunks(self.frame_bytes - 8) {
            self.frame(BODY, channel, part)?;
        }
        Ok(())
    }

    /// Acknowledges a delivery and all before it on its channel, not flushed yet.
    pub(super) fn ack_up_to(&mut self, channel: u16, tag: u64) -> Result<()> {
        self.send(channel, Method::new(60, 80).u64(tag).byte(1))
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        Ok(self.writer.flush()?)
    }

    /// Flushes, waits for something, and takes what else has arrived already, at most `limit`. Empty
    /// when the read timeout passed first.
    pub(super) fn receive(&mut self, limit: usize) -> Result<Vec<Received>> {
        self.flush()?;
        let mut received = std::mem::take(&mut self.early);
        while received.is_empty() || (received.len() < limit && self.has_whole_frame()) {
            if received.is_empty() && self.is_timed_out()? {
                break;
            }
            let frame = self.read_frame()?;
            received.extend(self.understand(frame)?);
        }
        Ok(received)
    }

    /// Waits for the first byte of a frame; whether it did not come in time.
    fn is_timed_out(&mut self) -> Result<bool> {
        match self.reader.fill_buf() {
            Ok([]) => bail!("the broker closed the connection"),
            Ok(_) => Ok(false),
            Err(error) if is_timeout(&error) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    fn has_whole_frame(&self) -> bool {
        let buffered = self.reader.buffer();
        buffered.len() >= 7 && {
            let size = u32::from_be_bytes([buffered[3], buffered[4], buffered[5], buffered[6]]);
            buffered.len() >= size as usize + 8
        }
    }

    fn understand(&mut self, frame: Frame) -> Result<Option<Received>> {
        let Frame {
            kind,
            channel,
            payload,
        } = frame;
        let place = usize::from(channel);
        match (kind, method_of(&payload)) {
            (METHOD, (60, 60)) => {
                let consumer = usize::from(payload[4]);
                let tag = u64::from_be_bytes(payload[5 + consumer..13 + consumer].try_into()?);
                self.partial[place] = Some(Partial {
                    tag,
                    size: usize::MAX,
                    body: Vec::new(),
                });
                Ok(None)
            }
            (METHOD, (60, 80)) => Ok(Some(Received::Confirmed {
                channel,
                tag: u64::from_be_bytes(payload[4..12].try_into()?),
                multiple: payload[12] & 1 == 1,
            })),
            (METHOD, (60, 50)) => bail!("a message was returned: no queue takes it"),
            (METHOD, (60, 120)) => bail!("the broker refused a message"),
            (METHOD, method) => bail!(
                "the broker says {method:?}: {}",
                String::from_utf8_lossy(&payload[4..])
            ),
            (HEADER, _) => {
                let partial = self.partial[place].as_mut().context("a delivery")?;
                partial.size = usize::try_from(u64::from_be_bytes(payload[4..12].try_into()?))?;
                Ok(self.whole(channel))
            }
            (BODY, _) => {
                let partial = self.partial[place].as_mut().context("a delivery")?;
                partial.body.extend_from_slice(&payload);
                Ok(self.whole(channel))
            }
            (HEARTBEAT, _) => Ok(None),
            (other, _) => bail!("a frame of kind {other}"),
        }
    }

    fn whole(&mut self, channel: u16) -> Option<Received> {
        let place = &mut self.partial[usize::from(channel)];
        let Partial { tag, body, .. } =
            place.take_if(|partial| partial.body.len() == partial.size)?;
        Some(Received::Delivery { channel, tag, body })
    }

    fn call(&mut self, channel: u16, method: Method, answer: (u16, u16)) -> Result<()> {
        self.send(channel, method)?;
        self.flush()?;
        self.expect(answer).map(drop)
    }

    fn expect(&mut self, wanted: (u16, u16)) -> Result<Vec<u8>> {
        loop {
            let frame = self.read_frame()?;
            let method = method_of(&frame.payload);
            if frame.kind == METHOD && method == wanted {
                return Ok(frame.payload[4..].to_vec());
            }
            let early = self.understand(frame)?;
            self.early.extend(early);
        }
    }

    fn send(&mut self, channel: u16, method: Method) -> Result<()> {
        self.frame(METHOD, channel, &method.0)
    }

    fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) -> Result<()> {
        self.writer.write_all(&[kind])?;
        self.writer.write_all(&channel.to_be_bytes())?;
        self.writer
            .write_all(&u32::try_from(payload.len())?.to_be_bytes())?;
        self.writer.write_all(payload)?;
        Ok(self.writer.write_all(&[END])?)
    }

    /// Fills a part of a frame. The read timeout is for what has not begun: a part that is late comes.
    fn read_whole(&mut self, mut part: &mut [u8]) -> Result<()> {
        while !part.is_empty() {
            match self.reader.read(part) {
                Ok(0) => bail!("the broker closed the connection"),
                Ok(read) => part = &mut part[read..],
                Err(error) if is_timeout(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn read_frame(&mut self) -> Result<Frame> {
        let mut head = [0; 7];
        self.read_whole(&mut head)?;
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        let mut payload = vec![0; size + 1];
        self.read_whole(&mut payload)?;
        ensure!(payload.pop() == Some(END), "a frame without its end");
        Ok(Frame {
            kind: head[0],
            channel: u16::from_be_bytes([head[1], head[2]]),
            payload,
        })
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut)
}

fn method_of(payload: &[u8]) -> (u16, u16) {
    match payload {
        [a, b, c, d, ..] => (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])),
        _ => (0, 0),
    }
}

/// A method frame being written.
struct Method(Vec<u8>);

impl Method {
    fn new(class: u16, method: u16) -> Self {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend(class.to_be_bytes());
        bytes.extend(method.to_be_bytes());
        Self(bytes)
    }

    fn byte(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// A short string; names here are far below its 255 bytes.
    fn short(mut self, text: &str) -> Self {
        self.0.push(text.len() as u8);
        self.0.extend(text.as_bytes());
        self
    }

    /// Bytes with their length before them: a long string, or a table.
    fn bytes(self, bytes: &[u8]) -> Self {
        let mut method = self.u32(bytes.len() as u32);
        method.0.extend(bytes);
        method
    }

    fn long(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    /// An empty table.
    fn table(self) -> Self {
        self.u32(0)
    }
}
