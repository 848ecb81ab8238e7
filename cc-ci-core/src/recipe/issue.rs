//! What a look at a recipe says, and whose app it is looked at as.

use super::compose::privilege::shown;
use super::env_file::EnvFile;
use super::rules::Rule;
use crate::names::Domain;

/// Whose app a recipe is looked at as, and what that app may have in common with others.
#[derive(Debug, Clone, Copy)]
pub struct Policy<'a> {
    /// The app's domain.
    pub domain: &'a Domain,
    /// The external networks that the operator shares among apps, the proxy's above all.
    pub networks: &'a [String],
    /// The privileges that the operator grants to the recipe, each as `key=value`.
    pub granted: &'a [String],
    /// The `.env` as an operator wrote it, where one did: the hosts and networks that it names are the app's.
    pub operators: Option<&'a EnvFile>,
}

impl Policy<'_> {
    pub(super) fn has_network(&self, name: &str) -> bool {
        self.networks.iter().any(|shared| shared == name)
            || self.operators.is_some_and(|env| env.vars().values().any(|value| value == name))
    }
}

/// One thing that breaks a rule.
#[derive(Debug)]
pub(super) struct Issue {
    pub(super) rule: &'static Rule,
    /// The keys that lead to it in the compose files.
    pub(super) path: Vec<String>,
    /// What its line holds, where the path leads to a whole block: the first of these that stands in one.
    pub(super) marks: Vec<String>,
    /// What the operator grants for it to be no fault, as the configuration has it.
    pub(super) privilege: Option<String>,
    /// The host or network of somebody else that it is about.
    pub(super) named: Option<String>,
    /// The variable that it is about: then there is no path.
    pub(super) variable: Option<String>,
    pub(super) what: String,
}

impl Issue {
    pub(super) fn at(rule: &'static Rule, path: &[&str], what: String) -> Self {
        let path = path.iter().map(|key| (*key).to_owned()).collect();
        Self { rule, path, marks: Vec::new(), privilege: None, named: None, variable: None, what }
    }

    pub(super) fn marked(mut self, mark: impl Into<String>) -> Self {
        self.marks.push(mark.into());
        self
    }

    pub(super) fn asking(mut self, privilege: impl Into<String>) -> Self {
        self.privilege = Some(shown(&privilege.into()));
        self
    }

    pub(super) fn naming(mut self, name: &str) -> Self {
        self.named = Some(name.to_owned());
        self
    }

    pub(super) fn of_variable(rule: &'static Rule, name: &str, what: String) -> Self {
        let (path, marks) = (Vec::new(), Vec::new());
        Self { rule, path, marks, privilege: None, named: None, variable: Some(name.to_owned()), what }
    }
}
