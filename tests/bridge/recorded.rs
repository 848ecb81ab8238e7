//! The stand-in answers as the real forge was recorded: the same statuses, and values of the same form.

use axum::http::Method;
use serde_json::{Value, json};

use crate::forge::{BOT, Forge, TOKEN, sha};
use crate::http::{Answer, Asked, Site as _};

/// The form of a value: its keys, and the kinds of what is in it.
fn form(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), form(value))).collect(),
        Value::Array(items) => items.first().map(form).into_iter().collect(),
        Value::Null => Value::Null,
        Value::Bool(_) => "bool".into(),
        Value::Number(_) => "number".into(),
        Value::String(_) => "string".into(),
    }
}

#[test]
fn the_stand_in_answers_as_the_forge_did() {
    let all: Value =
        serde_json::from_str(include_str!("../../cc-ci-bridge/recorded/forge.json")).expect("the recording");
    let mut forge = Forge::new();
    let comment = forge.comment(1, "stranger", "!testme");
    let ours = forge.comment(1, BOT, "text");
    let commit = sha("a1");
    let mut compare = |name: &str, method: Method, path: &str, body: Value| {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let query = query.split('&').filter_map(|pair| pair.split_once('='));
        let asked = Asked {
            method,
            path: format!("/api/v1/repos/{path}"),
            query: query.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            body,
            token: format!("token {TOKEN}"),
        };
        forge.tells = name != "permission_as_writer";
        let Answer(status, value, total) = forge.answer(&asked);
        assert_eq!(Value::from(status), all[name]["status"], "{name}");
        assert_eq!(form(&value), form(&all[name]["body"]), "{name}");
        assert_eq!(total.is_some(), all[name]["headers"]["x-total-count"].is_string(), "{name}");
    };
    let notes = "recipes/notes";
    let get = Method::GET;
    compare("pull", get.clone(), &format!("{notes}/pulls/1"), Value::Null);
    compare(
        "comments_since",
        get.clone(),
        &format!("{notes}/issues/comments?since=2020-01-01T00:00:00Z"),
        Value::Null,
    );
    compare("issue_comments", get.clone(), &format!("{notes}/issues/1/comments"), Value::Null);
    compare("timeline", get.clone(), &format!("{notes}/issues/1/timeline"), Value::Null);
    let permission = |user| format!("{notes}/collaborators/{user}/permission");
    compare("permission_as_admin_bot", get.clone(), &permission("maintainer"), Value::Null);
    compare("permission_stranger", get.clone(), &permission("stranger"), Value::Null);
    compare("permission_as_writer", get.clone(), &permission("maintainer"), Value::Null);
    let status =
        json!({ "state": "pending", "context": "cc-ci", "description": "waiting", "target_url": "" });
    compare("status_post", Method::POST, &format!("{notes}/statuses/{commit}"), status);
    compare("combined_status", get.clone(), &format!("{notes}/commits/{commit}/status"), Value::Null);
    compare(
        "comment_patch",
        Method::PATCH,
        &format!("{notes}/issues/comments/{ours}"),
        json!({ "body": "new" }),
    );
    for name in ["reaction_new", "reaction_again"] {
        let path = format!("{notes}/issues/comments/{comment}/reactions");
        compare(name, Method::POST, &path, json!({ "content": "eyes" }));
    }
    compare("bad_token", get, "recipes/others/pulls/1", Value::Null);
}
