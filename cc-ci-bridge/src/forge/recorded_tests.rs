//! What a real forge answered is read as what it is.

use serde_json::Value;

use super::answers::{Combined, Made, PermissionAnswer, TimelineEntry};
use super::*;

fn recorded(name: &str) -> Value {
    let all: Value = serde_json::from_str(include_str!("../../recorded/forge.json")).unwrap();
    all[name]["body"].clone()
}

fn read<T: serde::de::DeserializeOwned>(name: &str) -> T {
    serde_json::from_value(recorded(name)).unwrap()
}

#[test]
fn comments_are_of_a_pull_request_with_times_of_the_forges_clock() {
    let comments: Vec<Comment> = read("comments_since");
    let first = &comments[0];
    assert_eq!((first.id, first.user.login.as_str(), first.body.as_str()), (2, "stranger", "!testme"));
    assert_eq!(first.pull(), Some(1));
    assert_eq!(first.created_at, first.updated_at);
    let at_issue: Comment = {
        let mut comment = recorded("comments_since")[0].clone();
        comment["pull_request_url"] = "".into();
        serde_json::from_value(comment).unwrap()
    };
    assert_eq!(at_issue.pull(), None);
}

#[test]
fn a_pull_request_is_open_at_a_head_and_its_last_push_names_it() {
    let pull: Pull = read("pull");
    assert!(pull.is_open());
    let pushes = read::<Vec<TimelineEntry>>("timeline").into_iter().filter_map(TimelineEntry::push);
    let last = pushes.max_by_key(|push| push.at).unwrap();
    assert_eq!(last.head.as_ref(), Some(pull.head()));
    let comments: Vec<Comment> = read("issue_comments");
    assert!(
        comments.iter().all(|comment| comment.created_at < last.at),
        "it was pushed to after all of them"
    );
}

#[test]
fn permissions_statuses_and_new_comments_are_read() {
    assert_eq!(read::<PermissionAnswer>("permission_as_admin_bot").permission(), Permission::May);
    assert_eq!(read::<PermissionAnswer>("permission_stranger").permission(), Permission::MayNot);
    let statuses = read::<Combined>("combined_status").statuses.unwrap();
    assert_eq!(statuses[0].context, "cc-ci");
    assert_eq!(statuses[0].creator.as_ref().unwrap().login, "maintainer");
    assert_eq!(read::<Made>("comment_patch").id, 8);
}

#[test]
fn the_head_after_a_push_is_its_last_commit_and_after_a_reopening_nobody_says() {
    let entry = |kind: &str, body: &str| {
        let mut entry = recorded("timeline")[0].clone();
        entry["type"] = kind.into();
        entry["body"] = body.into();
        serde_json::from_value::<TimelineEntry>(entry).unwrap().push().map(|push| push.head)
    };
    let (old, new) = ("a".repeat(40), "b".repeat(40));
    let commits = format!(r#"{{"is_force_push":true,"commit_ids":["{old}","{new}"]}}"#);
    assert_eq!(entry("pull_push", &commits), Some(Some(new.parse().unwrap())));
    assert_eq!(entry("pull_push", "?"), Some(None));
    assert_eq!(entry("reopen", ""), Some(None));
    assert_eq!(entry("close", ""), None);
}
