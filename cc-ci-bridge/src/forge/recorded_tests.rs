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
    assert!(last.commits.as_ref().unwrap().contains(pull.head()), "{last:?} {pull:?}");
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
