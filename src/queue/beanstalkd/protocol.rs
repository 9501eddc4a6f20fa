//! beanstalkd's protocol, as its `doc/protocol.txt` (1.12) has it: commands to bytes, bytes to answers.

use std::collections::HashMap;
use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// What may be said to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Put {
        priority: u32,
        delay: u32,
        ttr: u32,
        body: Vec<u8>,
    },
    Use(String),
    Watch(String),
    Ignore(String),
    /// `reserve-with-timeout`, in seconds.
    Reserve(u32),
    ReserveJob(u64),
    Touch(u64),
    Release {
        id: u64,
        priority: u32,
        delay: u32,
    },
    Bury {
        id: u64,
        priority: u32,
    },
    Delete(u64),
    Kick(u64),
    KickJob(u64),
    Peek(u64),
    PeekReady,
    PeekDelayed,
    PeekBuried,
    Stats,
    StatsTube(String),
    StatsJob(u64),
    ListTubes,
}

/// What the server says when it has done as it was told, or found that there is nothing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Inserted(u64),
    /// Of `put`, with the id, and of `release`: the server had no memory to queue the job. Of `bury`: as told.
    Buried(Option<u64>),
    Using(String),
    Watching(u64),
    NotIgnored,
    Reserved {
        id: u64,
        body: Vec<u8>,
    },
    DeadlineSoon,
    TimedOut,
    Touched,
    Released,
    Deleted,
    /// Of `kick` with the number, of `kick-job` without.
    Kicked(Option<u64>),
    Found {
        id: u64,
        body: Vec<u8>,
    },
    /// Statistics, or a list.
    Data(Vec<u8>),
    NotFound,
}

/// What the server says when it cannot do as it was told. Reads on after "beanstalkd at HOST:PORT".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("has no memory left (OUT_OF_MEMORY): have jobs worked off, or give it more")]
    OutOfMemory,
    #[error("met a fault of its own (INTERNAL_ERROR): restart it, with its binlog no job is lost")]
    InternalError,
    #[error("does not understand what it is told (BAD_FORMAT): is its version 1.10 or newer?")]
    BadFormat,
    #[error("does not know a command (UNKNOWN_COMMAND): is its version 1.10 or newer?")]
    UnknownCommand,
    #[error("lost count of a job's bytes (EXPECTED_CRLF): something on the way to it changes what is sent")]
    ExpectedCrlf,
    #[error("refuses the job as too large (JOB_TOO_BIG): its option -z sets the limit")]
    JobTooBig,
    #[error("takes no new jobs (DRAINING): somebody sent it SIGUSR1, and only a restart undoes that")]
    Draining,
}

impl Refusal {
    /// Whether the server and we may disagree about what comes next on the connection.
    pub fn is_confusion(self) -> bool {
        !matches!(self, Refusal::OutOfMemory | Refusal::JobTooBig | Refusal::Draining)
    }
}

pub type Answer = Result<Reply, Refusal>;

/// A name of at most 200 of the characters that the protocol allows.
pub fn is_tube_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-+/;.$_()".contains(c);
    (1..=200).contains(&name.len()) && !name.starts_with('-') && name.chars().all(allowed)
}

impl Command {
    /// The tube it names, for which nothing vouches yet.
    pub fn tube(&self) -> Option<&str> {
        match self {
            Command::Use(tube) | Command::Watch(tube) | Command::Ignore(tube) | Command::StatsTube(tube) => {
                Some(tube)
            }
            _ => None,
        }
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        let line = match self {
            Command::Put { priority, delay, ttr, body } => {
                out.extend_from_slice(format!("put {priority} {delay} {ttr} {}\r\n", body.len()).as_bytes());
                out.extend_from_slice(body);
                String::new()
            }
            Command::Use(tube) => format!("use {tube}"),
            Command::Watch(tube) => format!("watch {tube}"),
            Command::Ignore(tube) => format!("ignore {tube}"),
            Command::Reserve(seconds) => format!("reserve-with-timeout {seconds}"),
            Command::ReserveJob(id) => format!("reserve-job {id}"),
            Command::Touch(id) => format!("touch {id}"),
            Command::Release { id, priority, delay } => format!("release {id} {priority} {delay}"),
            Command::Bury { id, priority } => format!("bury {id} {priority}"),
            Command::Delete(id) => format!("delete {id}"),
            Command::Kick(bound) => format!("kick {bound}"),
            Command::KickJob(id) => format!("kick-job {id}"),
            Command::Peek(id) => format!("peek {id}"),
            Command::PeekReady => "peek-ready".into(),
            Command::PeekDelayed => "peek-delayed".into(),
            Command::PeekBuried => "peek-buried".into(),
            Command::Stats => "stats".into(),
            Command::StatsTube(tube) => format!("stats-tube {tube}"),
            Command::StatsJob(id) => format!("stats-job {id}"),
            Command::ListTubes => "list-tubes".into(),
        };
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// A command's line has at most 224 bytes; no answer's is longer than a few words.
const LONGEST_LINE: u64 = 512;
/// The largest limit for a job that the server can be given, 1 GiB.
const LARGEST_DATA: u64 = 1 << 30;

/// Reads one answer. An error means that the connection is of no more use.
pub async fn read_answer(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Answer> {
    let line = read_line(from).await?;
    let words: Vec<&str> = line.split(' ').collect();
    let number = |word: &str| word.parse::<u64>().map_err(|_| strange(&line));
    Ok(Ok(match words[..] {
        ["INSERTED", id] => Reply::Inserted(number(id)?),
        ["BURIED", id] => Reply::Buried(Some(number(id)?)),
        ["BURIED"] => Reply::Buried(None),
        ["USING", tube] => Reply::Using(tube.to_owned()),
        ["WATCHING", count] => Reply::Watching(number(count)?),
        ["NOT_IGNORED"] => Reply::NotIgnored,
        ["RESERVED", id, size] => {
            Reply::Reserved { id: number(id)?, body: read_data(from, number(size)?).await? }
        }
        ["DEADLINE_SOON"] => Reply::DeadlineSoon,
        ["TIMED_OUT"] => Reply::TimedOut,
        ["TOUCHED"] => Reply::Touched,
        ["RELEASED"] => Reply::Released,
        ["DELETED"] => Reply::Deleted,
        ["KICKED", count] => Reply::Kicked(Some(number(count)?)),
        ["KICKED"] => Reply::Kicked(None),
        ["FOUND", id, size] => Reply::Found { id: number(id)?, body: read_data(from, number(size)?).await? },
        ["OK", size] => Reply::Data(read_data(from, number(size)?).await?),
        ["NOT_FOUND"] => Reply::NotFound,
        ["OUT_OF_MEMORY"] => return Ok(Err(Refusal::OutOfMemory)),
        ["INTERNAL_ERROR"] => return Ok(Err(Refusal::InternalError)),
        ["BAD_FORMAT"] => return Ok(Err(Refusal::BadFormat)),
        ["UNKNOWN_COMMAND"] => return Ok(Err(Refusal::UnknownCommand)),
        ["EXPECTED_CRLF"] => return Ok(Err(Refusal::ExpectedCrlf)),
        ["JOB_TOO_BIG"] => return Ok(Err(Refusal::JobTooBig)),
        ["DRAINING"] => return Ok(Err(Refusal::Draining)),
        _ => return Err(strange(&line)),
    }))
}

async fn read_line(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<String> {
    let mut line = Vec::new();
    from.take(LONGEST_LINE).read_until(b'\n', &mut line).await?;
    match line.strip_suffix(b"\r\n") {
        Some(line) => Ok(String::from_utf8_lossy(line).into_owned()),
        None if line.is_empty() => {
            Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection"))
        }
        None => Err(strange(&String::from_utf8_lossy(&line))),
    }
}

async fn read_data(from: &mut (impl AsyncBufRead + Unpin), size: u64) -> io::Result<Vec<u8>> {
    if size > LARGEST_DATA {
        return Err(strange(&format!("{size} bytes of data")));
    }
    let mut data = Vec::new();
    from.take(size + 2).read_to_end(&mut data).await?;
    let whole = u64::try_from(data.len()).is_ok_and(|read| read == size + 2) && data.ends_with(b"\r\n");
    if !whole {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it broke off in the middle of an answer"));
    }
    data.truncate(data.len() - 2);
    Ok(data)
}

fn strange(said: &str) -> io::Error {
    let said: String = said.chars().take(60).flat_map(char::escape_default).collect();
    io::Error::new(io::ErrorKind::InvalidData, format!("it said '{said}', as no beanstalkd does"))
}

/// Statistics: the flat dictionary that the protocol calls YAML. Strings may be quoted.
pub fn dictionary(data: &[u8]) -> HashMap<String, String> {
    let text = String::from_utf8_lossy(data);
    let pairs = text.lines().filter_map(|line| line.split_once(": "));
    pairs.map(|(key, value)| (key.to_owned(), unquoted(value))).collect()
}

/// The items of `list-tubes`.
pub fn list(data: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(data);
    text.lines().filter_map(|line| line.strip_prefix("- ")).map(unquoted).collect()
}

fn unquoted(value: &str) -> String {
    value.trim().trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(mut bytes: &[u8]) -> io::Result<Answer> {
        read_answer(&mut bytes).await
    }

    #[tokio::test]
    async fn every_documented_answer_is_known() {
        let body = b"a\r\nb".to_vec();
        for (bytes, wanted) in [
            ("INSERTED 7", Ok(Reply::Inserted(7))),
            ("BURIED 7", Ok(Reply::Buried(Some(7)))),
            ("BURIED", Ok(Reply::Buried(None))),
            ("USING t", Ok(Reply::Using("t".into()))),
            ("WATCHING 2", Ok(Reply::Watching(2))),
            ("NOT_IGNORED", Ok(Reply::NotIgnored)),
            ("RESERVED 7 4\r\na\r\nb", Ok(Reply::Reserved { id: 7, body: body.clone() })),
            ("FOUND 7 4\r\na\r\nb", Ok(Reply::Found { id: 7, body: body.clone() })),
            ("OK 4\r\na\r\nb", Ok(Reply::Data(body))),
            ("DEADLINE_SOON", Ok(Reply::DeadlineSoon)),
            ("TIMED_OUT", Ok(Reply::TimedOut)),
            ("TOUCHED", Ok(Reply::Touched)),
            ("RELEASED", Ok(Reply::Released)),
            ("DELETED", Ok(Reply::Deleted)),
            ("KICKED 3", Ok(Reply::Kicked(Some(3)))),
            ("KICKED", Ok(Reply::Kicked(None))),
            ("NOT_FOUND", Ok(Reply::NotFound)),
            ("OUT_OF_MEMORY", Err(Refusal::OutOfMemory)),
            ("INTERNAL_ERROR", Err(Refusal::InternalError)),
            ("BAD_FORMAT", Err(Refusal::BadFormat)),
            ("UNKNOWN_COMMAND", Err(Refusal::UnknownCommand)),
            ("EXPECTED_CRLF", Err(Refusal::ExpectedCrlf)),
            ("JOB_TOO_BIG", Err(Refusal::JobTooBig)),
            ("DRAINING", Err(Refusal::Draining)),
        ] {
            assert_eq!(read(format!("{bytes}\r\n").as_bytes()).await.unwrap(), wanted, "{bytes}");
        }
    }

    #[tokio::test]
    async fn what_no_beanstalkd_says_is_an_error_and_no_panic() {
        let endless = vec![b'x'; 4096];
        for bytes in [
            &b""[..],
            b"\r\n",
            b"INSERTED\r\n",
            b"INSERTED -1\r\n",
            b"INSERTED 99999999999999999999\r\n",
            b"RESERVED 1 4\r\nab",
            b"RESERVED 1 4\r\nabcdef\r\n",
            b"OK 99999999999\r\n",
            b"OK 18446744073709551615\r\n",
            b"HTTP/1.1 400 Bad Request\r\n",
            b"NOT_FOUND\n",
            b"\xff\xfe\r\n",
            &endless,
        ] {
            assert!(read(bytes).await.is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn commands_are_as_documented_and_bodies_are_sent_as_they_are() {
        let mut out = Vec::new();
        Command::Put { priority: 1, delay: 2, ttr: 120, body: b"a\r\n\0".to_vec() }.encode(&mut out);
        Command::Reserve(30).encode(&mut out);
        Command::Release { id: 7, priority: 8, delay: 9 }.encode(&mut out);
        assert_eq!(out, b"put 1 2 120 4\r\na\r\n\0\r\nreserve-with-timeout 30\r\nrelease 7 8 9\r\n");
    }

    #[test]
    fn statistics_are_read_quoted_or_not() {
        let stats = dictionary(b"---\nid: 7\ntube: \"x86_64\"\nversion: 1.12\n");
        assert_eq!(
            (stats["id"].as_str(), stats["tube"].as_str(), stats["version"].as_str()),
            ("7", "x86_64", "1.12")
        );
        assert_eq!(list(b"---\n- default\n- \"t\"\n"), ["default", "t"]);
    }

    #[test]
    fn only_what_the_protocol_allows_names_a_tube() {
        assert!(is_tube_name("x86_64") && is_tube_name(&"t".repeat(200)));
        for bad in ["", "-x", "a b", "a\r\nquit", "ü", &"t".repeat(201)] {
            assert!(!is_tube_name(bad), "{bad}");
        }
    }
}
