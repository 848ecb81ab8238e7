//! Deliveries, signed as the forge signs them, or as somebody else would.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;

use crate::forge::Comment;

/// The secret of the webhook.
pub const SECRET: &str = "s3cret-of-the-hook";

/// A delivery.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Delivery {
    /// Returns what the forge delivers of a new comment: a recorded delivery with the comment put in.
    pub fn of(comment: &Comment) -> Self {
        let all: Vec<Value> = serde_json::from_str(include_str!("../../cc-ci-bridge/recorded/hooks.json"))
            .expect("the recording");
        let mut body: Value = serde_json::from_str(all[2]["body"].as_str().expect("a body")).expect("JSON");
        body["issue"]["number"] = comment.pull.into();
        body["comment"]["id"] = comment.id.into();
        body["comment"]["user"]["login"] = comment.author.clone().into();
        body["comment"]["body"] = comment.body.clone().into();
        body["comment"]["created_at"] = comment.created.to_string().into();
        body["comment"]["updated_at"] = comment.updated.to_string().into();
        Self::signed(body.to_string())
    }

    pub fn signed(body: String) -> Self {
        let signature = signature(&body);
        let headers = [
            ("Content-Type", "application/json"),
            ("X-Forgejo-Event", "issue_comment"),
            ("X-Gitea-Event", "issue_comment"),
            ("X-Gitea-Event-Type", "pull_request_comment"),
            ("X-Forgejo-Signature", &signature),
            ("X-Gitea-Signature", &signature),
        ];
        Self { headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into(), body }
    }

    /// The same with other values of a header; without it if there are none.
    pub fn with(mut self, name: &str, values: &[&str]) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.extend(values.iter().map(|value| (name.to_owned(), (*value).to_owned())));
        self
    }

    /// Delivers it, and returns the status; `None`: the connection was closed without one.
    pub fn send(&self, to: SocketAddr) -> Option<u16> {
        send_raw(to, self.request(to).as_bytes())
    }

    /// Returns the request that delivers it, the only one of its connection.
    pub fn request(&self, to: SocketAddr) -> String {
        let mut head = format!(
            "POST /hook HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\nContent-Length: {}\r\n",
            self.body.len()
        );
        head.extend(self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")));
        format!("{head}\r\n{}", self.body)
    }
}

/// Sends bytes, and returns the status of the answer.
pub fn send_raw(to: SocketAddr, bytes: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect(to).ok()?;
    // Whoever is refused may not be listened to till the end.
    let _written = stream.write_all(bytes).is_ok();
    let mut text = Vec::new();
    let _read = stream.read_to_end(&mut text).is_ok();
    status(&text)
}

/// Returns the status of an answer.
pub fn status(answer: &[u8]) -> Option<u16> {
    String::from_utf8_lossy(answer).split(' ').nth(1)?.parse().ok()
}

fn signature(body: &str) -> String {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).expect("any key does");
    mac.update(body.as_bytes());
    mac.finalize().into_bytes().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}
