//! The examples' recipes as repositories, and a light recipe for a Swarm.

use std::path::Path;
use std::process::Command;

use crate::engine::BUSYBOX;
use crate::recipe::Recipe;
use crate::world::World;

/// An example, by its directory and its releases: each is a directory, laid over those before it, and a tag.
struct Example {
    directory: &'static str,
    releases: [(&'static str, &'static str); 2],
}

const NOTE_KEEPER: Example =
    Example { directory: "recipe", releases: [("1.0.0", "1.0.0+1.0.0"), ("1.1.0", "1.1.0+1.1.0")] };
const FOUR_SERVICES: Example =
    Example { directory: "four-services", releases: [("1.0.0", "1.0.0+1.35.0"), ("1.1.0", "1.1.0+1.36.0")] };

impl World {
    /// The recipe of the example app, with its two releases.
    pub fn note_keeper(&self) -> Recipe {
        self.example("note-keeper", &NOTE_KEEPER)
    }

    /// The recipe of four services, with its two releases.
    pub fn four_services(&self) -> Recipe {
        self.example("four-services", &FOUR_SERVICES)
    }

    fn example(&self, name: &str, example: &Example) -> Recipe {
        let path = self.path().join("recipes").join(name);
        let recipe = Recipe::empty(&path);
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(example.directory);
        for (directory, version) in example.releases {
            let copied =
                Command::new("cp").arg("-R").arg(examples.join(directory).join(".")).arg(&path).status();
            assert!(copied.expect("cp starts").success(), "{directory} of {name} can't be copied");
            recipe.release(version);
        }
        recipe
    }

    /// A recipe for a Swarm with one service that serves a page after a second or two: a volume, a secret, a config,
    /// a network, and a backup label. Nothing is committed yet.
    pub fn light(&self, name: &str) -> Recipe {
        let recipe = Recipe::empty(&self.path().join("recipes").join(name));
        recipe.write(
            ".env.sample",
            &format!("TYPE={name}\nDOMAIN={name}.example.com\nLETS_ENCRYPT_ENV=\nSECRET_KEY_VERSION=v1 # length=24\n"),
        );
        recipe
            .write("abra.sh", "export PAGE_VERSION=v1\n")
            .write("page.tmpl", "I am {{ env \"DOMAIN\" }}.\n");
        recipe.light_compose("1.0.0+1", "");
        recipe
    }
}

impl Recipe {
    /// Writes the compose file of [`World::light`]: `version` is what its label and its page's second line say, `more`
    /// goes into the service (four spaces deep), e.g. `"    hostname: x\n"`.
    pub fn light_compose(&self, version: &str, more: &str) -> &Self {
        self.write(
            "compose.yml",
            &format!(
                r#"version: "3.8"
services:
  app:
    image: {BUSYBOX}
    command:
      - sh
      - -c
      - cp /page /srv/index.html && echo 'This is {version}.' >> /srv/index.html && exec httpd -f -p 8080 -h /srv
    environment:
      DOMAIN: ${{DOMAIN}}
    # busybox's httpd, as process 1, does not listen to TERM.
    stop_grace_period: 1s
    networks: [proxy]
    volumes: ["data:/data", "srv:/srv"]
    secrets: [key]
    configs: [{{source: page, target: /page}}]
    # Each probe costs the engine more than the app does.
    healthcheck:
      test: ["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8080/"]
      interval: 2s
      timeout: 10s
      retries: 10
{more}    deploy:
      endpoint_mode: dnsrr
      update_config: {{failure_action: rollback, monitor: 1s}}
      labels:
        - "traefik.enable=true"
        - "traefik.docker.network=proxy"
        - "traefik.http.services.${{STACK_NAME}}.loadbalancer.server.port=8080"
        - "coop-cloud.${{STACK_NAME}}.version={version}"
        - "coop-cloud.${{STACK_NAME}}.timeout=240"
        - "backupbot.backup=true"
volumes: {{data: , srv: }}
secrets:
  key:
    external: true
    name: ${{STACK_NAME}}_key_${{SECRET_KEY_VERSION}}
configs:
  page:
    name: ${{STACK_NAME}}_page_${{PAGE_VERSION}}
    file: page.tmpl
    template_driver: golang
networks:
  proxy: {{external: true}}
  internal:
"#
            ),
        )
    }
}
