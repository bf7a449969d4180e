//! `deploy/kubernetes/` and the compose file with PostgreSQL: their parts name each other rightly, and the pods have no right
//! that they do not need.

use std::collections::BTreeSet;

use patchwright::config::file::ConfigFile;
use serde_json::{Value, json};

use super::{read, root, yaml};

const FOLDER: &str = "deploy/kubernetes";

fn manifest(name: &str) -> Value {
    yaml(&format!("{FOLDER}/{name}"))
}

fn strings(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().map(|item| item.as_str().unwrap()).collect()
}

#[test]
fn each_manifest_is_applied_and_each_that_is_applied_is_there() {
    for folder in ["", "components/gvisor", "components/monitoring"] {
        let folder = root().join(FOLDER).join(folder);
        let kustomization: Value =
            serde_saphyr::from_str(&std::fs::read_to_string(folder.join("kustomization.yaml")).unwrap()).unwrap();
        let named: BTreeSet<&str> = strings(&kustomization["resources"]).into_iter().collect();
        let there: BTreeSet<String> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".yaml") && name != "kustomization.yaml")
            .collect();
        assert_eq!(named, there.iter().map(String::as_str).collect(), "{}", folder.display());
    }
    let kustomization = manifest("kustomization.yaml");
    assert_eq!(kustomization["configMapGenerator"][0]["files"], json!(["patchwright.toml"]));
    let image = &manifest("deployment.yaml")["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!(&kustomization["images"][0]["name"], image);
}

#[test]
fn labels_and_ports_meet() {
    let deployment = manifest("deployment.yaml");
    let template = &deployment["spec"]["template"];
    let labels = &template["metadata"]["labels"];
    let service = manifest("service.yaml");
    assert_eq!(&deployment["spec"]["selector"]["matchLabels"], labels);
    assert_eq!(&service["spec"]["selector"], labels);
    assert_eq!(&manifest("poddisruptionbudget.yaml")["spec"]["selector"]["matchLabels"], labels);
    let policy = manifest("networkpolicy.yaml");
    assert_eq!(&policy["spec"]["podSelector"]["matchLabels"], labels);
    let monitor = manifest("components/monitoring/servicemonitor.yaml");
    assert_eq!(monitor["spec"]["selector"]["matchLabels"], service["metadata"]["labels"]);

    let names = |ports: &Value, key: &str| -> BTreeSet<String> {
        ports.as_array().unwrap().iter().map(|port| port[key].as_str().unwrap().to_owned()).collect()
    };
    let container = &template["spec"]["containers"][0];
    let open = names(&container["ports"], "name");
    assert!(names(&service["spec"]["ports"], "targetPort").is_subset(&open));
    assert!(names(&monitor["spec"]["endpoints"], "port").is_subset(&names(&service["spec"]["ports"], "name")));
    for from in policy["spec"]["ingress"].as_array().unwrap() {
        assert!(!from["from"].as_array().unwrap().is_empty(), "an empty list lets everybody in");
        assert!(names(&from["ports"], "port").is_subset(&open), "{from}");
    }
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        // Webhooks come in whatever else is down.
        assert_eq!(container[probe]["httpGet"], json!({"path": "/healthz", "port": "health"}), "{probe}");
    }
}

#[test]
fn the_pods_configuration_is_right_and_its_secrets_are_where_it_says() {
    let text = read(&format!("{FOLDER}/patchwright.toml"));
    toml::from_str::<ConfigFile>(&text).unwrap();
    let config: toml::Table = toml::from_str(&text).unwrap();
    let service = &config["service"];
    let deployment = manifest("deployment.yaml");
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let port = |name: &str| {
        let ports = container["ports"].as_array().unwrap();
        ports.iter().find(|port| port["name"] == name).unwrap()["containerPort"].as_i64()
    };
    assert_eq!(service["health_port"].as_integer(), port("health"));
    assert_eq!(service["metrics_port"].as_integer(), port("metrics"));
    assert_eq!(service["listen"].as_str().unwrap().rsplit_once(':').unwrap().1.parse().ok(), port("webhooks"));
    let grace = pod["terminationGracePeriodSeconds"].as_i64().unwrap();
    assert!(service["drain_seconds"].as_integer().unwrap() + 20 <= grace, "tasks are killed while they stop");

    let mounted = |mount: &str| {
        let mounts = container["volumeMounts"].as_array().unwrap();
        let name = &mounts.iter().find(|there| there["mountPath"] == mount).unwrap()["name"];
        pod["volumes"].as_array().unwrap().iter().find(|volume| &volume["name"] == name).unwrap()
    };
    assert_eq!(
        mounted("/etc/patchwright")["configMap"]["name"],
        manifest("kustomization.yaml")["configMapGenerator"][0]["name"]
    );
    assert!(container["args"].as_array().unwrap().contains(&json!("/etc/patchwright/patchwright.toml")));
    let secret = &mounted("/run/secrets/patchwright")["secret"];
    let shown: BTreeSet<String> = secret["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| format!("/run/secrets/patchwright/{}", item["path"].as_str().unwrap()))
        .collect();
    let wanted: BTreeSet<String> =
        [("service", "webhook_secret_file"), ("github", "token_file"), ("model", "key_file")]
            .iter()
            .map(|(section, key)| config[*section][*key].as_str().unwrap().to_owned())
            .collect();
    assert_eq!(shown, wanted);
    let address =
        container["env"].as_array().unwrap().iter().find(|variable| variable["name"] == "DATABASE_URL").unwrap();
    let reference = &address["valueFrom"]["secretKeyRef"];
    assert_eq!(reference["name"], secret["secretName"]);
    // The guide's command makes all of them.
    let guide = read(&format!("{FOLDER}/kustomization.yaml"));
    for key in ["github-token", "webhook-secret", "llm-key", reference["key"].as_str().unwrap()] {
        assert!(guide.contains(&format!("--from-file={key}")), "{key}");
    }
}

#[test]
fn the_pods_have_no_right_that_they_do_not_need() {
    let deployment = manifest("deployment.yaml");
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["hostUsers"], false);
    assert_eq!(
        (&pod["securityContext"]["runAsNonRoot"], &pod["securityContext"]["runAsUser"]),
        (&json!(true), &json!(10001))
    );
    assert!(read("Dockerfile").contains("USER 10001:10001"));
    let container = &pod["containers"][0];
    let context = &container["securityContext"];
    assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}));
    assert_eq!(
        (&context["allowPrivilegeEscalation"], &context["readOnlyRootFilesystem"]),
        (&json!(false), &json!(true))
    );
    for name in ["hostNetwork", "hostPID", "hostIPC"] {
        assert!(pod[name].is_null(), "{name}");
    }
    for volume in pod["volumes"].as_array().unwrap() {
        assert!(volume["hostPath"].is_null(), "{volume}");
    }
    for variable in container["env"].as_array().unwrap() {
        let is_secret =
            ["TOKEN", "SECRET", "KEY", "URL"].iter().any(|word| variable["name"].as_str().unwrap().contains(word));
        assert!(!is_secret || variable["value"].is_null(), "{variable}");
    }
    assert!(container["resources"]["limits"]["memory"].is_string());
    // The gVisor component takes away what is there, by paths that exist.
    let component = manifest("components/gvisor/kustomization.yaml");
    let patch: Value = serde_saphyr::from_str(component["patches"][0]["patch"].as_str().unwrap()).unwrap();
    for step in patch.as_array().unwrap() {
        let there = deployment.pointer(step["path"].as_str().unwrap());
        assert_eq!(there.is_some(), step["op"] == "remove", "{step}");
    }
}

#[test]
fn compose_with_a_database_gives_each_service_a_place_of_its_own() {
    let file = yaml("deploy/docker-compose.postgres.yml");
    let service = &file["services"]["patchwright"];
    let database = &file["services"]["database"];
    let address = service["environment"]["DATABASE_URL"].as_str().unwrap();
    assert!(
        address.starts_with("postgres://patchwright:${POSTGRES_PASSWORD:?in .env}@database:5432/patchwright?"),
        "{address}"
    );
    assert_eq!(service["depends_on"]["database"]["condition"], "service_healthy");
    assert!(database["healthcheck"].is_object() && database["ports"].is_null(), "nobody else reaches the database");
    let kept = strings(&database["volumes"])[0].split_once(':').unwrap().0;
    assert!(file["volumes"].get(kept).is_some());
    assert!(
        !strings(&service["volumes"]).iter().any(|volume| volume.starts_with("state:")),
        "the services would share it"
    );
    // A port of the host can be one service's.
    assert!(strings(&service["ports"]).iter().all(|port| port.starts_with("127.0.0.1::")));
}
