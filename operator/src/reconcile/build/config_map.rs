//! The `ConfigMap` with the generated `my.cnf`.

use std::path::Path;

use api::names;
use k8s_openapi::api::core::v1::ConfigMap;

use crate::reconcile::database::Database;

/// Builds it.
pub fn build(database: &Database) -> ConfigMap {
    ConfigMap {
        metadata: database.owned(names::config_map(&database.name)),
        data: Some([(file(), database.my_cnf.clone())].into()),
        ..ConfigMap::default()
    }
}

/// The key is the file's name, because the whole map is mounted as a directory.
fn file() -> String {
    Path::new(names::MY_CNF)
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::database::example;

    #[test]
    fn the_config_map_as_built() {
        let mut map = build(&example::database(|_| ()));
        // The file itself has its own tests.
        map.data
            .iter_mut()
            .flatten()
            .for_each(|(_, text)| text.truncate(20));
        insta::assert_yaml_snapshot!(map);
    }
}
