//! IRC (RFC 2812) as a client that posts: registration, SASL PLAIN (IRCv3 sasl-3.1, RFC 4616), channels, and no more
//! lines than servers bear.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use irc_proto::{Command, Message, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::fs;
use super::net::{self, Address, NetError, Stream};
use super::tls::{Tls, TlsError, TlsFiles};

/// How long a server has for an answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// It is asked whether it is still there after so long without a word.
const SILENCE: Duration = Duration::from_secs(120);
/// What servers bear: a line every two seconds, and a few more after a pause (RFC 2813, section 5.8).
const INTERVAL: Duration = Duration::from_secs(2);
pub const BURST: u32 = 4;
/// A line's text: 512 bytes less what the server puts before it for others (RFC 2812, section 2.3).
const LONGEST_TEXT: usize = 400;
/// Of a line that comes in, with its tags (IRCv3 message-tags).
const LONGEST_LINE: usize = 16 << 10;
/// SASL's messages are cut into pieces of this length.
const SASL_PIECE: usize = 400;

/// A server, and who we are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    pub address: Address,
    /// None: without TLS.
    pub tls: Option<TlsFiles>,
    pub nick: String,
    /// An account, and the file that has its password in the first line; none: no authentication.
    pub login: Option<(String, PathBuf)>,
    pub channels: Vec<Channel>,
}

/// A channel's name (RFC 2812, section 1.3).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Channel(String);

impl Channel {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// No channel's name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{0}' is no channel: its name begins with # and has neither blanks nor commas")]
pub struct BadChannel(String);

impl FromStr for Channel {
    type Err = BadChannel;

    fn from_str(text: &str) -> Result<Channel, BadChannel> {
        let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != ',';
        let good =
            text.len() > 1 && text.len() <= 50 && text.starts_with(['#', '&']) && text.chars().all(plain);
        good.then(|| Channel(text.to_owned()))
            .ok_or_else(|| BadChannel(text.escape_debug().take(60).collect()))
    }
}

/// Whether servers may take it for a nickname (RFC 2812, section 2.3.1; longer ones are usual by now).
pub fn is_nick(text: &str) -> bool {
    let special = |c: char| "[]\\`_^{|}".contains(c);
    let first = text.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || special(c));
    first && text.len() <= 30 && text.chars().all(|c| c.is_ascii_alphanumeric() || special(c) || c == '-')
}

/// A connection that cannot be made, or is lost.
#[derive(Debug, thiserror::Error)]
pub enum IrcError {
    #[error(transparent)]
    Net(#[from] NetError),
    #[error("the IRC server cannot be spoken to through TLS: {0}")]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Password(#[from] fs::FileError),
    #[error("the connection to the IRC server {address} is lost: {source}")]
    Lost { address: Address, source: std::io::Error },
    #[error("the IRC server {0} has not answered in time")]
    Silent(Address),
    #[error("the IRC server {address} sends us away: {reason}")]
    Ended { address: Address, reason: String },
    #[error(
        "the IRC server {address} does not accept account '{account}': {reason}; correct user and password_file in section [irc]"
    )]
    Login { address: Address, account: String, reason: String },
}

/// A connection that has joined its channels.
pub struct Irc {
    address: Address,
    stream: Stream,
    /// What has come of lines that were not looked at.
    buffer: Vec<u8>,
    nick: String,
    channels: Vec<Channel>,
    /// How many lines may be sent at once, and when that was so.
    allowance: (f64, Instant),
}

impl std::fmt::Debug for Irc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Irc")
            .field("address", &self.address)
            .field("nick", &self.nick)
            .finish_non_exhaustive()
    }
}

impl Irc {
    /// Connects, says who we are, and joins the channels.
    pub async fn connect(options: &Options) -> Result<Irc, IrcError> {
        let tls = options.tls.as_ref().map(Tls::open).transpose()?;
        let mut irc = Irc {
            address: options.address.clone(),
            stream: net::connect(&options.address, tls.as_ref()).await?,
            buffer: Vec::new(),
            nick: options.nick.clone(),
            channels: options.channels.clone(),
            allowance: (f64::from(BURST), Instant::now()),
        };
        if options.login.is_some() {
            irc.put(Command::Raw("CAP".into(), vec!["REQ".into(), "sasl".into()])).await?;
        }
        irc.put(Command::NICK(irc.nick.clone())).await?;
        irc.put(Command::USER("reimzul".into(), "0".into(), "Reimzul build results".into())).await?;
        if let Some((account, file)) = &options.login {
            irc.log_in(account, &fs::first_line(file)?).await?;
        }
        irc.register().await?;
        for channel in irc.channels.clone() {
            irc.join(&channel).await?;
        }
        irc.settle().await?;
        Ok(irc)
    }

    /// Posts a line, as soon as the server bears another.
    pub async fn say(&mut self, channel: &Channel, text: &str) -> Result<(), IrcError> {
        self.wait_for_allowance().await?;
        self.put(Command::PRIVMSG(channel.0.clone(), shortened(text).to_owned())).await
    }

    /// Returns when the server has seen all that was sent.
    pub async fn settle(&mut self) -> Result<(), IrcError> {
        let token = uuid::Uuid::new_v4().simple().to_string();
        self.put(Command::PING(token.clone(), None)).await?;
        self.until(|message| match &message.command {
            Command::PONG(one, other) if *one == token || other.as_ref() == Some(&token) => Some(Ok(())),
            _ => None,
        })
        .await
    }

    /// Stays connected until the connection is lost. May be dropped at any time.
    pub async fn stay(&mut self) -> IrcError {
        loop {
            let message = match tokio::time::timeout(SILENCE, self.next()).await {
                Ok(Ok(message)) => message,
                Ok(Err(error)) => return error,
                Err(_) => match self.settle().await {
                    Ok(()) => continue,
                    Err(error) => return error,
                },
            };
            if let Err(error) = self.attend(&message).await {
                return error;
            }
        }
    }

    /// Says goodbye.
    pub async fn quit(mut self) {
        let _ = self.put(Command::QUIT(Some("stopping".into()))).await;
        let _ = tokio::time::timeout(Duration::from_secs(1), self.stream.shutdown()).await;
    }

    async fn log_in(&mut self, account: &str, password: &str) -> Result<(), IrcError> {
        let refused = |address: &Address, reason: &str| IrcError::Login {
            address: address.clone(),
            account: account.to_owned(),
            reason: reason.to_owned(),
        };
        let address = self.address.clone();
        self.until(|message| match &message.command {
            Command::CAP(_, which, argument, _) => match (which.to_str(), argument.as_deref()) {
                ("ACK", _) => Some(Ok(())),
                ("NAK", _) => Some(Err(refused(&address, "it offers no SASL"))),
                _ => None,
            },
            // A server that knows no capabilities (421) goes on without.
            Command::Response(Response::ERR_UNKNOWNCOMMAND | Response::RPL_WELCOME, _) => {
                Some(Err(refused(&address, "it offers no SASL")))
            }
            _ => None,
        })
        .await?;
        self.put(Command::AUTHENTICATE("PLAIN".into())).await?;
        self.until(|message| match &message.command {
            Command::AUTHENTICATE(_) => Some(Ok(())),
            command => refusal(command).map(|reason| Err(refused(&address, &reason))),
        })
        .await?;
        let secret = BASE64_STANDARD.encode(format!("{account}\0{account}\0{password}"));
        for piece in pieces(&secret) {
            self.put(Command::AUTHENTICATE(piece)).await?;
        }
        self.until(|message| match &message.command {
            Command::Response(Response::RPL_SASLSUCCESS, _) => Some(Ok(())),
            command => refusal(command).map(|reason| Err(refused(&address, &reason))),
        })
        .await?;
        self.put(Command::Raw("CAP".into(), vec!["END".into()])).await
    }

    /// Waits for the welcome.
    async fn register(&mut self) -> Result<(), IrcError> {
        let given = self.until(|message| match &message.command {
            Command::Response(Response::RPL_WELCOME, given) => Some(Ok(given.first().cloned())),
            _ => None,
        });
        if let Some(given) = given.await? {
            self.nick = given;
        }
        Ok(())
    }

    async fn join(&mut self, channel: &Channel) -> Result<(), IrcError> {
        self.wait_for_allowance().await?;
        self.put(Command::JOIN(channel.0.clone(), None, None)).await
    }

    /// Does what a message asks for.
    async fn attend(&mut self, message: &Message) -> Result<(), IrcError> {
        match &message.command {
            Command::PING(one, _) => self.put(Command::PONG(one.clone(), None)).await,
            Command::Response(Response::ERR_NICKNAMEINUSE, _) => {
                self.nick.push('_');
                self.put(Command::NICK(self.nick.clone())).await
            }
            Command::ERROR(reason) => {
                let reason = reason.escape_debug().take(200).collect();
                Err(IrcError::Ended { address: self.address.clone(), reason })
            }
            Command::KICK(channel, who, reason) if who.eq_ignore_ascii_case(&self.nick) => {
                let reason: String =
                    reason.iter().flat_map(|reason| reason.escape_debug()).take(200).collect();
                tracing::warn!("kicked out of {}: {reason}", channel.escape_debug());
                match self.channels.iter().find(|known| known.0.eq_ignore_ascii_case(channel)).cloned() {
                    // Boxed, since waiting for leave to join attends, too.
                    Some(channel) => Box::pin(self.join(&channel)).await,
                    None => Ok(()),
                }
            }
            Command::Response(response, said) if response.is_error() => {
                let said: String = said.join(" ").escape_debug().take(200).collect();
                tracing::warn!("the IRC server {} says: {said}", self.address);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Attends until a message is what is waited for.
    async fn until<T>(
        &mut self,
        mut wanted: impl FnMut(&Message) -> Option<Result<T, IrcError>>,
    ) -> Result<T, IrcError> {
        let end = Instant::now() + PATIENCE;
        loop {
            let message = match tokio::time::timeout_at(end, self.next()).await {
                Ok(message) => message?,
                Err(_) => return Err(IrcError::Silent(self.address.clone())),
            };
            if let Some(found) = wanted(&message) {
                return found;
            }
            self.attend(&message).await?;
        }
    }

    async fn wait_for_allowance(&mut self) -> Result<(), IrcError> {
        loop {
            let (left, since) = self.allowance;
            let now = Instant::now();
            let left = f64::from(BURST).min(left + (now - since).as_secs_f64() / INTERVAL.as_secs_f64());
            if left >= 1.0 {
                self.allowance = (left - 1.0, now);
                return Ok(());
            }
            self.allowance = (left, now);
            let wait = INTERVAL.mul_f64(1.0 - left);
            // Who does not answer a ping is thrown out.
            if let Ok(message) = tokio::time::timeout(wait, self.next()).await {
                let message = message?;
                self.attend(&message).await?;
            }
        }
    }

    /// The next message. May be dropped at any time. What is no message is left out.
    async fn next(&mut self) -> Result<Message, IrcError> {
        loop {
            while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                if let Ok(message) = String::from_utf8_lossy(&line).parse() {
                    return Ok(message);
                }
            }
            let read = self.stream.read_buf(&mut self.buffer).await;
            let kind = match read {
                Ok(0) => std::io::ErrorKind::UnexpectedEof.into(),
                Ok(_) if self.buffer.len() > LONGEST_LINE => std::io::ErrorKind::InvalidData.into(),
                Ok(_) => continue,
                Err(error) => error,
            };
            return Err(IrcError::Lost { address: self.address.clone(), source: kind });
        }
    }

    async fn put(&mut self, command: Command) -> Result<(), IrcError> {
        let lost = |source| IrcError::Lost { address: self.address.clone(), source };
        let line = Message::from(command).to_string();
        // One line, whatever it is made of.
        let line = line.trim_end_matches(['\r', '\n']).replace(['\r', '\n', '\0'], " ") + "\r\n";
        self.stream.write_all(line.as_bytes()).await.map_err(lost)?;
        self.stream.flush().await.map_err(lost)
    }
}

/// Why the server does not let us in.
fn refusal(command: &Command) -> Option<String> {
    use Response::{ERR_SASLABORT, ERR_SASLFAIL, ERR_SASLTOOLONG, RPL_SASLMECHS};
    match command {
        Command::Response(ERR_SASLFAIL | ERR_SASLTOOLONG | ERR_SASLABORT | RPL_SASLMECHS, said) => {
            Some(said.last().map(|said| said.escape_debug().take(200).collect()).unwrap_or_default())
        }
        _ => None,
    }
}

/// A message of a multiple of the length ends in an empty piece.
fn pieces(secret: &str) -> Vec<String> {
    let mut pieces: Vec<String> = secret
        .as_bytes()
        .chunks(SASL_PIECE)
        .map(|piece| String::from_utf8_lossy(piece).into_owned())
        .collect();
    if secret.len().is_multiple_of(SASL_PIECE) {
        pieces.push("+".into());
    }
    pieces
}

fn shortened(text: &str) -> &str {
    let cut = (0..=LONGEST_TEXT.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..cut.unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_one_channel() {
        for good in ["#builds", "&local", "#c7.x86_64"] {
            assert_eq!(good.parse::<Channel>().unwrap().as_str(), good);
        }
        for bad in ["", "#", "builds", "#a,#b", "#a b", "#a\r\nQUIT"] {
            assert!(bad.parse::<Channel>().is_err(), "{bad}");
        }
        assert!(is_nick("reimzul[1]") && !is_nick("1up") && !is_nick("a b") && !is_nick(""));
    }

    #[test]
    fn a_long_secret_goes_in_pieces_and_ends() {
        assert_eq!(pieces("abc"), ["abc"]);
        let long = "x".repeat(SASL_PIECE);
        assert_eq!(pieces(&long), [long.clone(), "+".into()]);
        assert_eq!(pieces(&(long.clone() + "y")), [long, "y".into()]);
        assert_eq!(shortened(&"ä".repeat(1000)).len(), LONGEST_TEXT);
    }

    proptest::proptest! {
        #[test]
        fn no_line_of_a_server_is_the_end_of_us(line in "[@: !,=;A-Z0-9#]{0,80}\r?\n?", any in ".*") {
            let _ = (line.parse::<Message>(), any.parse::<Message>());
        }
    }
}
