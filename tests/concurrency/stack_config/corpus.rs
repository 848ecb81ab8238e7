//! Documents that are generated: what one service says in one to three files, and the volumes, networks, secrets and configs
//! that it uses. Each is made of its number alone, so what is found once is found again.

mod deploy;
pub mod dice;
mod keys;
mod mounts;
mod texts;

use std::fmt::Write as _;

use dice::Dice;

/// So much of a service in one file.
#[derive(Debug, Default)]
struct Layer {
    service: Vec<String>,
    sections: [Vec<String>; 4],
}

/// One service, in as many files as it has layers.
#[derive(Debug)]
pub struct Document {
    pub number: u64,
    layers: Vec<Layer>,
}

const SECTIONS: [&str; 4] = ["volumes", "networks", "secrets", "configs"];

/// What each file begins with: maps that are merged into others.
const HEAD: &str = "x-m: &m {A: m, M: '1'}\nx-n: &n {M: n, N: 2}\n";

/// The files that `env_file` names.
pub const ENV_FILES: [(&str, &str); 2] = [
    ("one.env", "# none\n\nF=1\nA=${A}\n  INDENTED=x y \nQUOTED=\"q\"\nEMPTY=\nB_2\nNOBODY\r\nCR=1\r\n"),
    ("two.env", "\u{feff}F=2\nG==\nA\nEMPTY=set\n"),
];

impl Document {
    /// The document of this number.
    pub fn of(number: u64) -> Self {
        let mut dice = Dice::new(number);
        let layers = match dice.below(10) {
            0..5 => 1,
            5..9 => 2,
            _ => 3,
        };
        let layers = (0..layers).map(|place| keys::layer(&mut dice, place == 0)).collect();
        Self { number, layers }
    }

    pub fn name(&self) -> String {
        format!("d{}", self.number)
    }
}

/// The files that `documents` make together: each says something of its own.
pub fn files(documents: &[Document]) -> Vec<String> {
    let count = documents.iter().map(|document| document.layers.len()).max().unwrap_or(0);
    (0..count).map(|place| file(documents, place)).collect()
}

fn file(documents: &[Document], place: usize) -> String {
    let mut text = format!("version: \"3.13\"\n{HEAD}services:\n");
    let mut sections = SECTIONS.map(|name| format!("{name}:\n"));
    for document in documents {
        let Some(layer) = document.layers.get(place) else { continue };
        let own = |line: &str| line.replace('@', &format!("{}-", document.name()));
        writeln!(text, "  {}:", document.name()).unwrap();
        for line in &layer.service {
            writeln!(text, "    {}", own(line).replace('\n', "\n    ")).unwrap();
        }
        for (section, lines) in sections.iter_mut().zip(&layer.sections) {
            for line in lines {
                writeln!(section, "  {}", own(line)).unwrap();
            }
        }
    }
    for section in sections.into_iter().filter(|section| section.lines().count() > 1) {
        text.push_str(&section);
    }
    text
}
