//! Judges the files as they are.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::finding_sink::FindingSink;
use super::layout::{ABRA_SH, COMPOSE, LayoutError, SAMPLE, compose_files, release_notes, unfit_tests};
use super::previous_release::Digests;
use super::{History, Report, lines, previous_release, table, variables, version};
use crate::model::error_chain;
use crate::names::{Domain, Stack};
use crate::recipe::check::{self, MAX_NAME, SHARED_NETWORKS};
use crate::recipe::compose::{Compose, ComposeError, Object};
use crate::recipe::env_file::EnvFile;
use crate::recipe::issue::{Issue, Policy};
use crate::recipe::{ImageReference, Recipe, RecipeError, abra_sh, routes, tree, yaml};

/// The version of compose files that abra's lint asks for.
const COMPOSE_VERSION: &str = "3.8";
/// How long the key of a secret may be to abra's lint.
const SECRET_KEY_LEN: usize = 12;

/// How many release notes are read.
const MAX_NOTES: usize = 100;

/// What of a recipe's files rules look at: equal where nothing was changed.
pub(crate) fn fingerprint(recipe: &Recipe, domain: &Domain) -> Vec<(String, Option<[u8; 32]>)> {
    let mut digests = Digests::default();
    let files = compose_files(recipe.root()).unwrap_or_default().names;
    let read = [SAMPLE.to_owned(), ABRA_SH.to_owned()];
    let mut found: Vec<_> = (files.iter().chain(&read))
        .map(|file| (file.clone(), digests.file(recipe, Path::new(file))))
        .collect();
    // By their paths: names say less, and a file that can't be read any more is a change too.
    for file in previous_release::held_files(recipe, domain, &files) {
        let digest = digests.file(recipe, &file);
        found.push((file.display().to_string(), digest));
    }
    found
}

/// Judges a recipe's files; blocks.
pub(crate) fn check(recipe: &Recipe, domain: Domain, history: &History) -> Result<Report, LayoutError> {
    let files = compose_files(recipe.root())?;
    let texts: BTreeMap<&str, String> = files
        .names
        .iter()
        .map(String::as_str)
        .chain([SAMPLE, ABRA_SH])
        .filter_map(|file| Some((file, tree::read_text(recipe.root(), Path::new(file)).ok()?)))
        .collect();
    let mut checker = Checker {
        recipe,
        domain: &domain,
        texts: &texts,
        history,
        values: texts.iter().filter_map(|(file, text)| Some((*file, yaml::parse(text).ok()?))).collect(),
        sink: FindingSink::of(texts.iter().map(|(file, text)| (*file, text.as_str())), &domain),
        digests: Digests::default(),
        longest: None,
    };
    version::tags(history, &mut checker.sink);
    for (file, why) in unfit_tests(recipe.root()).map_err(LayoutError::Io)? {
        checker.sink.write(&table::TEST_UNFIT, &file, Some(1), why);
    }
    let mut skipped = files.skipped;
    match checker.sample() {
        Some(sample) => checker.all(&files.names, &sample, texts.get(SAMPLE).map_or("", String::as_str)),
        None => skipped.push(format!("the compose files: they need the {SAMPLE}")),
    }
    skipped.extend(checker.sink.left_out());
    let findings = checker.sink.close();
    Ok(Report {
        recipe: recipe.name().clone(),
        compared_with: history.previous.as_ref().map(|previous| previous.version.clone()),
        skipped,
        findings,
        judged_as: domain,
    })
}

struct Checker<'a> {
    recipe: &'a Recipe,
    domain: &'a Domain,
    texts: &'a BTreeMap<&'a str, String>,
    history: &'a History,
    values: BTreeMap<&'a str, Value>,
    sink: FindingSink<'a>,
    digests: Digests,
    /// The longest name of a secret or config: file, section, key, name.
    longest: Option<(String, &'static str, String, String)>,
}

impl Checker<'_> {
    fn all(&mut self, files: &[String], sample: &EnvFile, sample_text: &str) {
        let known = variables::uncommented(sample, sample_text);
        let vars = |env: &EnvFile| self.recipe.vars(env, self.domain);
        let (base_vars, overlay_vars) = match (vars(sample), vars(&known)) {
            (Ok(base), Ok(overlay)) => (base, overlay),
            (Err(error), _) | (_, Err(error)) => {
                self.sink.write(&table::FILE_UNREADABLE, ABRA_SH, None, &error_chain(&error));
                return;
            }
        };
        // What the sample takes into use by itself is how the recipe comes.
        let as_it_comes = sample.get("COMPOSE_FILE").filter(|named| !named.is_empty());
        let base = match self.load(&base_vars, COMPOSE) {
            Err(error) => match as_it_comes.map(|named| self.load(&base_vars, named)) {
                Some(Ok(compose)) => compose,
                _ => return self.refused(COMPOSE, &error),
            },
            Ok(compose) => compose,
        };
        let mut issues = self.issues(&base, sample, &known);
        issues.extend(version::label(&base, self.history.is_release.as_ref()));
        issues.extend(self.of_the_whole(&base));
        issues.extend(self.unannounced(&base_vars, COMPOSE));
        for issue in issues {
            self.sink.issue(COMPOSE, &issue);
        }
        self.measure(&base, COMPOSE);
        let mut used = base.used;
        for overlay in &files[1..] {
            let compose = match self.over(&overlay_vars, overlay, files) {
                Ok(compose) => compose,
                Err(error) => {
                    self.refused(overlay, &error);
                    continue;
                }
            };
            let mut issues = self.issues(&compose, &known, &known);
            issues.extend(self.unannounced(&overlay_vars, overlay));
            issues.retain(|issue| self.is_of(overlay, issue, &known));
            for issue in issues {
                self.sink.issue(overlay, &issue);
            }
            self.measure(&compose, overlay);
            used.extend(compose.used);
        }
        for (line, what) in abra_sh::doubtful(self.texts.get(ABRA_SH).map_or("", String::as_str), &used) {
            self.sink.write(&table::EXPORT_DOUBTFUL, ABRA_SH, Some(line), &what);
        }
        // A file that is judged alone may not be one that the sample can name, or not with the others.
        if let Some(Err(error)) =
            as_it_comes.filter(|_| !self.sink.has_errors()).map(|named| self.load(&base_vars, named))
        {
            self.refused(SAMPLE, &error);
        }
        self.room();
    }

    /// The sample; nothing once its fault is told.
    fn sample(&mut self) -> Option<EnvFile> {
        let read = self.recipe.sample().and_then(|sample| {
            sample.secrets()?;
            Ok(sample)
        });
        match read {
            Ok(sample) => Some(sample),
            Err(error) => {
                let line = match &error {
                    RecipeError::Env(error) => error.line(),
                    _ => None,
                };
                self.sink.write(&table::SAMPLE_INVALID, SAMPLE, line, &error_chain(&error));
                None
            }
        }
    }

    fn load(&self, vars: &BTreeMap<String, String>, files: &str) -> Result<Compose, ComposeError> {
        let mut vars = vars.clone();
        vars.insert("COMPOSE_FILE".to_owned(), files.to_owned());
        Compose::load(self.recipe.root(), &vars)
    }

    /// `compose.yml` with an overlay over it, and between them another one where the overlay needs it.
    fn over(
        &self,
        vars: &BTreeMap<String, String>,
        overlay: &str,
        files: &[String],
    ) -> Result<Compose, ComposeError> {
        let error = match self.load(vars, &format!("{COMPOSE}:{overlay}")) {
            // What one file says by itself no other mends.
            Err(error @ ComposeError::Invalid { .. })
                if error.file().is_some_and(|file| file.contains(':')) =>
            {
                error
            }
            loaded => return loaded,
        };
        let others = files[1..].iter().filter(|other| *other != overlay);
        let mut tried = others.map(|other| self.load(vars, &format!("{COMPOSE}:{other}:{overlay}")));
        tried.find_map(Result::ok).ok_or(error)
    }

    fn refused(&mut self, judged: &str, error: &ComposeError) {
        // Several files together are told at the one that was laid over.
        let file = error.file().map_or(judged, |file| file.rsplit(':').next().unwrap_or(judged)).to_owned();
        let path: Vec<&str> = error.path().unwrap_or_default().split('.').collect();
        let line = error.line().or_else(|| self.sink.find(&file, &path));
        self.sink.write(&table::COMPOSE_INVALID, &file, line, &error_chain(error));
    }

    /// What can be said against a stack, with the sample whose secrets are generated and all that it names.
    fn issues(&mut self, compose: &Compose, sample: &EnvFile, known: &EnvFile) -> Vec<Issue> {
        let secrets = sample.secrets().unwrap_or_default();
        let networks = SHARED_NETWORKS.map(str::to_owned);
        let policy = Policy { domain: self.domain, networks: &networks, granted: &[], operators: None };
        let mut found = check::issues(compose, sample, &secrets, &policy, |file| self.recipe.read(file));
        found.retain(|issue| issue.variable.as_ref().is_none_or(|name| known.get(name).is_none()));
        found.extend(self.unversioned(compose));
        for (key, secret) in compose.secrets.iter().filter(|(key, _)| key.len() > SECRET_KEY_LEN) {
            let what = format!("secret {key}: its key has {} characters", key.len());
            let at = if secret.external { "external" } else { "name" };
            found.push(Issue::at(&table::SECRET_NAME_LONG, &["secrets", key, at], what));
        }
        for (key, service) in &compose.services {
            if let Some(router) = routes::unseen(service) {
                let what = format!("service {key}: the proxy does not look at its router, {router}");
                let path = ["services", key, "deploy", "labels"];
                found.push(Issue::at(&table::PROXY_NOT_ENABLED, &path, what).marked(router));
            }
            let image = service.image.parse::<ImageReference>();
            if let Err(error) = image {
                let what = format!("service {key}: {error}");
                found.push(Issue::at(&table::IMAGE_INVALID, &["services", key, "image"], what));
            } else if let Some(says) = floating(&service.image) {
                let what = format!("service {key}: the image {} {says}", service.image);
                found.push(Issue::at(&table::IMAGE_FLOATING, &["services", key, "image"], what));
            }
            if service.healthcheck.is_none() && !service.mode.is_job() {
                let what = format!("service {key}: no healthcheck");
                found.push(Issue::at(&table::HEALTHCHECK_MISSING, &["services", key], what));
            }
        }
        for (key, volume) in compose.volumes.iter().filter(|(_, volume)| volume.external) {
            let what = format!("volume {key}: {} is external", volume.name);
            found.push(Issue::at(&table::EXTERNAL_VOLUME, &["volumes", key], what));
        }
        if let Some(previous) = &self.history.previous {
            for previous_release::Held { section, key, name, digest } in self.digests.of(self.recipe, compose)
            {
                if previous.contents.get(&name).is_some_and(|before| *before != digest) {
                    let (kind, release) = (section.trim_end_matches('s'), &previous.version);
                    let what =
                        format!("{kind} {key}: its file changed since {release}, its name {name} did not");
                    found.push(Issue::at(&table::CONFIG_NOT_BUMPED, &[section, &key, "name"], what));
                }
            }
        }
        found
    }

    /// What `compose.yml` says of the recipe, whatever is laid over it.
    fn of_the_whole(&self, base: &Compose) -> Vec<Issue> {
        let mut found = Vec::new();
        let version = self.values.get(COMPOSE).and_then(|value| value.get("version")).and_then(Value::as_str);
        if version != Some(COMPOSE_VERSION) {
            let what =
                version.map_or_else(|| "it says no version".to_owned(), |it| format!("its version is {it}"));
            // Where it is missing, the first thing that the file says is shown.
            let at = if version.is_some() { "version" } else { "services" };
            found.push(Issue::at(&table::COMPOSE_VERSION, &[at], what));
        }
        if !base.services.contains_key("app") {
            let what = "no service is named app".to_owned();
            found.push(Issue::at(&table::SERVICE_APP_MISSING, &["services"], what));
        }
        found
    }

    /// The configs whose name does not follow a version in `abra.sh`.
    fn unversioned(&self, compose: &Compose) -> Vec<Issue> {
        let versions = abra_sh::versions(self.texts.get(ABRA_SH).map_or("", String::as_str));
        let follows = |key: &str, name: &str| {
            let written =
                |file: &Value| file.get("configs")?.get(key)?.get("name")?.as_str().map(lines::variables);
            let mut used = self.values.values().filter_map(written).flatten();
            used.any(|variable| versions.get(&variable).is_some_and(|version| name.contains(version)))
        };
        // A name that is unfinished is told by another rule.
        let is_whole = |name: &str| name.ends_with(|c: char| c.is_ascii_alphanumeric());
        let configs = compose.configs.iter().filter(|(_, config)| !config.external && is_whole(&config.name));
        let unversioned = configs.filter(|(key, config)| !follows(key, &config.name));
        let issue = |(key, config): (&String, &Object)| {
            let what = format!("config {key}: no version in abra.sh is in its name, {}", config.name);
            Issue::at(&table::CONFIG_VERSION_MISSING, &["configs", key, "name"], what)
        };
        unversioned.map(issue).collect()
    }

    /// The variables without a default that deployed apps don't have, and nobody tells their operators of.
    fn unannounced(&self, vars: &BTreeMap<String, String>, file: &str) -> Vec<Issue> {
        let (Some(previous), Some(value)) = (&self.history.previous, self.values.get(file)) else {
            return Vec::new();
        };
        let Ok(set_by_abra) = self.recipe.vars(&EnvFile::default(), self.domain) else { return Vec::new() };
        let notes = self.new_notes(previous);
        let new = variables::needed(value).into_iter().filter(|name| {
            // What nobody sets at all is told by another rule.
            vars.contains_key(name)
                && !previous.known.contains(name)
                && !set_by_abra.contains_key(name)
                && !notes.iter().any(|note| has_word(note, name))
        });
        let issue = |name: String| {
            let what = format!(
                "{name} is new since {}, has no default, and no release note names it",
                previous.version
            );
            Issue::of_variable(&table::NEW_VARIABLE_UNANNOUNCED, &name, what)
        };
        new.map(issue).collect()
    }

    /// The release notes that the last release did not have.
    fn new_notes(&self, previous: &previous_release::PreviousRelease) -> Vec<String> {
        let names =
            release_notes(self.recipe.root()).into_iter().filter(|name| !previous.notes.contains(name));
        let read = |name: String| tree::read_text(self.recipe.root(), &Path::new("release").join(name)).ok();
        names.take(MAX_NOTES).filter_map(read).collect()
    }

    /// Whether an issue of the whole stack is an overlay's doing.
    fn is_of(&self, overlay: &str, issue: &Issue, known: &EnvFile) -> bool {
        // Who takes the overlay into use wants the port, and has the place for the data.
        if [&table::PUBLISHED_PORT, &table::VOLUME_OUTSIDE].contains(&issue.rule) {
            return false;
        }
        // What a variable names there is the operator's choice, not the overlay's. One whose value has nothing of the name
        // only hides it.
        let part = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
        let is_given = |named: &String| {
            let words = known.vars().values().flat_map(|value| value.split(part));
            words
                .filter(|word| word.len() > 2)
                .any(|word| named.to_ascii_lowercase().contains(&word.to_ascii_lowercase()))
        };
        let names = |named: &String| {
            self.texts.get(overlay).is_some_and(|text| text.contains(named)) || !is_given(named)
        };
        if [&table::FOREIGN_HOST, &table::FOREIGN_NETWORK].contains(&issue.rule)
            && issue.named.as_ref().is_some_and(|named| !names(named))
        {
            return false;
        }
        let Some(value) = self.values.get(overlay) else { return true };
        match (&issue.variable, &issue.path[..]) {
            (Some(name), _) => variables::needed(value).contains(name),
            (None, [section, key, ..]) => value.get(section).and_then(|section| section.get(key)).is_some(),
            (None, _) => true,
        }
    }

    fn measure(&mut self, compose: &Compose, file: &str) {
        for (section, objects) in [("configs", &compose.configs), ("secrets", &compose.secrets)] {
            for (key, object) in objects {
                let longer = self.longest.as_ref().is_none_or(|(.., name)| object.name.len() > name.len());
                let whole = object.name.ends_with(|c: char| c.is_ascii_alphanumeric());
                if longer && whole && compose.stack.prefixes(&object.name) {
                    self.longest = Some((file.to_owned(), section, key.clone(), object.name.clone()));
                }
            }
        }
    }

    /// Tells of the longest name, if a long stack's would not fit.
    fn room(&mut self) {
        let Some((file, section, key, name)) = self.longest.take() else { return };
        let stack = self.domain.stack();
        let rest = name.len() - stack.as_str().len();
        let room = MAX_NAME.saturating_sub(rest);
        // Where it does not fit this domain, that is told as an error.
        if room < Stack::MAX_LEN && name.len() <= MAX_NAME {
            let kind = section.trim_end_matches('s');
            let suffix = &name[stack.as_str().len()..];
            let what = format!(
                "{kind} {key}: <stack>{suffix} fits stacks of at most {room} characters; abra makes them of up to {}",
                Stack::MAX_LEN
            );
            let issue = Issue::at(&table::NAME_LEAVES_LITTLE_ROOM, &[section, &key, "name"], what);
            self.sink.issue(&file, &issue);
        }
    }
}

/// What is wrong with an image's reference, if it can mean another image tomorrow.
fn floating(image: &str) -> Option<&'static str> {
    if image.contains('@') {
        return None;
    }
    // A colon before the last slash is a registry's port.
    match image.rsplit('/').next().unwrap_or(image).split_once(':') {
        Some((_, "latest")) => Some("is whatever is latest"),
        None => Some("has no tag"),
        // A branch, a channel, a code name: main, stable, bookworm.
        Some((_, tag)) if !tag.bytes().any(|b| b.is_ascii_digit()) => Some("has a tag without a version"),
        Some(_) => None,
    }
}

fn has_word(text: &str, word: &str) -> bool {
    let words = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    text.split(words).any(|found| found == word)
}
