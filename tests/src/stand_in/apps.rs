//! Apps as abra keeps them: one `.env` each, in the directory of its server.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cc_ci_core::names::Domain;
use cc_ci_core::recipe::{Compose, EnvFile, Recipe, SecretSpec};
use serde_json::{Map, Value, json};

use super::command_line::Call;
use super::docker::{self, docker, docker_with};
use super::tree::Tree;
use super::{Abra, Fatal, Wrong, print};

/// What the removal of a volume may take.
const REMOVAL: Duration = Duration::from_secs(20);

/// One app.
#[derive(Debug)]
pub(super) struct App {
    pub domain: Domain,
    pub server: String,
    pub path: PathBuf,
    pub env: EnvFile,
    pub recipe: String,
}

impl App {
    /// The app whose domain is a command's first word.
    pub fn of(abra: &Abra, call: &Call) -> Result<Self, Fatal> {
        let domain = call.args.first().map_or("", String::as_str);
        let mut apps = all(abra)?.into_iter();
        apps.find(|app| app.domain.as_str() == domain)
            .ok_or_else(|| Fatal(format!("cannot find app with name {domain}")))
    }

    pub fn stack(&self) -> String {
        self.domain.stack().to_string()
    }

    /// What abra does before most of its work with an app: unless it is told to take the tree as it is, it moves it to
    /// the version of the app, or to the latest release.
    pub fn ensured(&self, abra: &Abra, call: &Call) -> Result<Tree, Fatal> {
        let tree = Tree::of(abra, &self.recipe)?;
        if !call.has("chaos") {
            tree.assert_clean()?;
            if let Some(version) = self.version().or(tree.latest()?) {
                tree.checkout(&version)?;
            }
        }
        Ok(tree)
    }

    /// What the compose files are read with.
    pub fn vars(&self, tree: &Tree) -> Result<BTreeMap<String, String>, Fatal> {
        let recipe = self.recipe_in(tree)?;
        recipe.vars(&self.env, &self.domain).map_err(|error| Fatal(cc_ci_core::error_chain(&error)))
    }

    pub fn compose(&self, tree: &Tree) -> Result<Compose, Fatal> {
        let vars = self.vars(tree)?;
        self.recipe_in(tree)?.compose(&vars).map_err(|error| Fatal(cc_ci_core::error_chain(&error)))
    }

    fn recipe_in(&self, tree: &Tree) -> Result<Recipe, Fatal> {
        let name = self.recipe.parse().map_err(|error| Fatal(format!("{error}")))?;
        Recipe::open(name, tree.path()).map_err(|error| Fatal(cc_ci_core::error_chain(&error)))
    }

    /// Sets a variable in the file.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), Fatal> {
        self.env.set(name, value).map_err(|error| Fatal(error.to_string()))?;
        Ok(fs::write(&self.path, self.env.to_string())?)
    }

    /// The version that the `.env` names.
    pub fn version(&self) -> Option<String> {
        let named = self.env.get("TYPE").or_else(|| self.env.get("RECIPE"))?;
        named.split_once(':').map(|(_, version)| version.to_owned())
    }

    /// The full names of its services that there are.
    pub fn services(&self) -> Result<Vec<String>, Fatal> {
        let filter = format!("label=com.docker.stack.namespace={}", self.stack());
        docker::lines(&["service", "ls", "--filter", &filter, "--format", "{{.Name}}"])
    }

    fn secret(&self, spec: &SecretSpec) -> String {
        format!("{}_{}_{}", self.stack(), spec.name, spec.version)
    }

    /// The secrets that its compose files use, and whether they exist.
    pub fn secrets(&self, tree: &Tree) -> Result<Vec<(SecretSpec, bool)>, Fatal> {
        let compose = self.compose(tree)?;
        let there = docker::lines(&["secret", "ls", "--format", "{{.Name}}"])?;
        let specs = self.env.secrets().map_err(|error| Fatal(error.to_string()))?;
        let used = |spec: &SecretSpec| compose.secrets.values().any(|used| used.name == self.secret(spec));
        Ok(specs
            .into_iter()
            .filter(used)
            .map(|spec| {
                let exists = there.contains(&self.secret(&spec));
                (spec, exists)
            })
            .collect())
    }
}

/// All apps of all servers.
fn all(abra: &Abra) -> Result<Vec<App>, Fatal> {
    let mut apps = Vec::new();
    for server in servers_of(abra)? {
        for entry in fs::read_dir(abra.directory.join("servers").join(&server))? {
            let path = entry?.path();
            let Some(domain) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".env")) else {
                continue;
            };
            let domain = domain.parse().map_err(|error| Fatal(format!("{error}")))?;
            let text = fs::read_to_string(&path)?;
            let env: EnvFile = text.parse().map_err(|error| Fatal(format!("{}: {error}", path.display())))?;
            let named = env.get("TYPE").or_else(|| env.get("RECIPE")).unwrap_or_default();
            let recipe = named.split(':').next().unwrap_or_default().to_owned();
            apps.push(App { domain, server: server.clone(), path, env, recipe });
        }
    }
    apps.sort_by(|one, other| one.domain.cmp(&other.domain));
    Ok(apps)
}

fn servers_of(abra: &Abra) -> Result<Vec<String>, Fatal> {
    let directory = abra.directory.join("servers");
    let entries = fs::read_dir(&directory)
        .map_err(|error| Fatal(format!("unable to read {}: {error}", directory.display())))?;
    let mut servers = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.path().is_dir() {
            servers.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    servers.sort();
    Ok(servers)
}

pub(super) fn servers(abra: &Abra, call: &Call) -> Result<(), Fatal> {
    let servers = servers_of(abra)?;
    if call.has("machine") {
        let list: Vec<Value> = servers.iter().map(|name| json!({ "name": name, "host": name })).collect();
        return print(&format!("{}\n", Value::from(list)));
    }
    servers.iter().try_for_each(|name| print(&format!("{name}\n")))
}

/// `app new`: the `.env` is the recipe's sample with the app's domain.
pub(super) fn new(abra: &Abra, call: &Call) -> Result<(), Fatal> {
    let recipe = call.args[0].clone();
    let domain = call.value("domain").ok_or_else(|| Fatal::new("no domain provided"))?;
    let server = call.value("server").unwrap_or("default").to_owned();
    let domain: Domain = domain.parse().map_err(|error| Fatal(format!("{error}")))?;
    let directory = abra.directory.join("servers").join(&server);
    if !directory.is_dir() {
        return Err(Fatal(format!("unknown server: {server}")));
    }
    let path = directory.join(format!("{domain}.env"));
    if path.exists() {
        return Err(Fatal(format!("{} already exists?", path.display())));
    }
    let tree = Tree::of(abra, &recipe)?;
    let version = if call.has("chaos") {
        None
    } else {
        tree.assert_clean()?;
        tree.lint()?;
        let version = call.args.get(1).cloned().or(tree.latest()?);
        version.as_ref().map_or(Ok(()), |version| tree.checkout(version))?;
        version
    };
    let sample = fs::read_to_string(tree.path().join(".env.sample"))?;
    let env: EnvFile = sample.parse().map_err(|error| Fatal(format!(".env.sample: {error}")))?;
    let mut app = App { domain: domain.clone(), server, path, env, recipe: recipe.clone() };
    app.set("DOMAIN", domain.as_str())?;
    app.set("TYPE", &version.map_or(recipe.clone(), |version| format!("{recipe}:{version}")))?;
    eprintln!("INFO new app '{recipe}' created 🌞");
    if call.has("secrets") {
        generate(abra, &app, &tree, None)?;
    }
    Ok(())
}

pub(super) fn list(abra: &Abra, call: &Call) -> Result<(), Fatal> {
    let apps = all(abra)?;
    let status = call.has("status");
    if status && abra.does(&Wrong::LsStatusFata) {
        return Err(Fatal::new("unable to resolve 'swarm.example.com': no such host"));
    }
    let mut servers: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    let mut text = String::new();
    for app in &apps {
        let chosen = call.value("server").is_none_or(|server| server == app.server)
            && call.value("recipe").is_none_or(|recipe| recipe == app.recipe);
        if !chosen {
            continue;
        }
        let deployed = if status { Some(!app.services()?.is_empty()) } else { None };
        let state = deployed.map_or("", |deployed| if deployed { "deployed" } else { "unknown" });
        let version = app.version().unwrap_or_else(|| "unknown".to_owned());
        writeln!(text, "{}  {}  {}", app.recipe, app.domain, app.server).expect("text grows");
        servers.entry(&app.server).or_default().push(json!({
            "server": app.server, "recipe": app.recipe, "appName": app.domain.as_str(),
            "domain": app.domain.as_str(), "status": state, "chaos": "unknown", "chaosVersion": "unknown",
            "autoUpdate": "unknown", "version": version, "upgrade": "unknown",
        }));
    }
    if !call.has("machine") {
        return print(&text);
    }
    let servers: Map<String, Value> = servers
        .into_iter()
        .map(|(server, apps)| {
            let count = apps.len();
            let server_apps = json!({
                "apps": apps, "appCount": count, "versionCount": 0, "unversionedCount": count,
                "latestCount": 0, "upgradeCount": 0,
            });
            (server.to_owned(), server_apps)
        })
        .collect();
    if abra.does(&Wrong::JsonNoise) {
        print("WARN retrieving remote recipes failed {\"offline\": true}\n[fetching] done\n")?;
    }
    print(&format!("{}\n", Value::from(servers)))
}

/// `app remove`: what `undeploy` left, and the `.env`.
pub(super) fn remove(abra: &Abra, call: &Call) -> Result<(), Fatal> {
    let app = App::of(abra, call)?;
    if !call.has("force") {
        return Err(Fatal::new("aborting as requested: --force is needed where nobody can be asked"));
    }
    if !app.services()?.is_empty() {
        return Err(Fatal(format!(
            "{} is still deployed. Run \"abra app undeploy {}\"",
            app.domain, app.domain
        )));
    }
    let prefix = format!("{}_", app.stack());
    for secret in docker::lines(&["secret", "ls", "--format", "{{.Name}}"])? {
        if secret.starts_with(&prefix) {
            docker(&["secret", "rm", &secret])?;
        }
    }
    let label = format!("label=com.docker.stack.namespace={}", app.stack());
    for volume in docker::lines(&["volume", "ls", "--quiet", "--filter", &label])? {
        // A task of an undeployed app may be a moment behind; abra tries again too.
        let until = Instant::now() + REMOVAL;
        while let Err(error) = docker(&["volume", "rm", &volume]) {
            if Instant::now() >= until {
                return Err(error);
            }
            std::thread::sleep(std::time::Duration::from_millis(250));
        }
    }
    Ok(fs::remove_file(&app.path)?)
}

pub(super) fn run(abra: &Abra, call: &Call) -> Result<(), Fatal> {
    let app = App::of(abra, call)?;
    let container = container_of(&app, &call.args[1])?;
    let mut words = vec!["exec"];
    if let Some(user) = call.value("user") {
        words.extend(["--user", user]);
    }
    words.push(&container);
    words.extend(call.args[2..].iter().map(String::as_str));
    print(&format!("{}\n", docker(&words)?))
}

/// A running container of a service.
pub(super) fn container_of(app: &App, service: &str) -> Result<String, Fatal> {
    let filter = format!("label=com.docker.swarm.service.name={}_{service}", app.stack());
    let found = docker::lines(&["ps", "--quiet", "--no-trunc", "--filter", &filter])?;
    found
        .into_iter()
        .next()
        .ok_or_else(|| Fatal(format!("no containers matching the {service} filter found?")))
}

pub(super) fn insert_secret(abra: &Abra, call: &Call) -> Result<(), Fatal> {
    let app = App::of(abra, call)?;
    app.ensured(abra, call)?;
    let [_, name, version, data] = &call.args[..] else {
        return Err(Fatal::new("accepts 4 arg(s)"));
    };
    let mut value = if call.has("file") { fs::read(data)? } else { data.clone().into_bytes() };
    if call.has("trim") {
        value = value.trim_ascii().to_owned();
    }
    if !abra.does(&Wrong::SecretsLost) {
        create_secret(&format!("{}_{name}_{version}", app.stack()), &value)?;
    }
    eprintln!("INFO {}_{name}_{version} successfully stored on server", app.stack());
    Ok(())
}

fn create_secret(name: &str, value: &[u8]) -> Result<(), Fatal> {
    docker_with(&["secret", "create", name, "-"], Some(value), &BTreeMap::new(), None).map(drop)
}

pub(super) fn generate_secrets(abra: &Abra, call: &Call) -> Result<(), Fatal> {
    let app = App::of(abra, call)?;
    if !call.has("all") && call.args.len() < 3 {
        return Err(Fatal::new("missing arguments [secret]/[version] or '--all'"));
    }
    let tree = app.ensured(abra, call)?;
    generate(abra, &app, &tree, call.args.get(1).filter(|_| !call.has("all")).map(String::as_str))
}

fn generate(abra: &Abra, app: &App, tree: &Tree, only: Option<&str>) -> Result<(), Fatal> {
    for (spec, exists) in app.secrets(tree)? {
        if !spec.generate || exists || only.is_some_and(|only| only != spec.name) {
            continue;
        }
        let length = spec.length.unwrap_or(32) as usize;
        let mut random = vec![0; length.div_ceil(2)];
        fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
        let value = random.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        if !abra.does(&Wrong::SecretsLost) {
            create_secret(&app.secret(&spec), &value.as_bytes()[..length])?;
        }
        // As abra does: there is no other time to see it.
        print(&format!("{} {}\n", spec.name, &value[..length]))?;
    }
    Ok(())
}

pub(super) fn list_secrets(abra: &Abra, call: &Call) -> Result<(), Fatal> {
    let app = App::of(abra, call)?;
    let tree = app.ensured(abra, call)?;
    let rows: Vec<Value> = app
        .secrets(&tree)?
        .into_iter()
        .map(|(spec, exists)| {
            let name = app.secret(&spec);
            json!({
                "name": spec.name, "version": spec.version, "generated-name": name,
                "created-on-server": exists.to_string(),
            })
        })
        .collect();
    if call.has("machine") {
        return print(&format!("{}\n", Value::from(rows)));
    }
    rows.iter().try_for_each(|row| print(&format!("{row}\n")))
}
