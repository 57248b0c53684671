//! What people watch and steer: connections, the connection check, how old data is, forms of statements.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use api::{
    resource::{NodeRole, Phase},
    wire::{
        Answer as ToNodeAnswer, Picture, PicturedChange, PicturedFailover, PicturedNode, PicturedRequest,
        Question, Wish as WireWish,
    },
};
use failover::{Cause, Change, GtidSet, Intent, Kind, Term};
use serde_json::{Value, json};
use sqlx::raw_sql;
use tokio::time::sleep;

use crate::support::{
    Node, PASSWORD,
    cluster::{Cluster, follow, is_down, signal},
    https::{ADMIN, Answer, LIMITED, READER, WRITER},
    is_caught_up, now, up,
};

/// What an operator would show of the cluster while `a` leads.
pub fn picture(cluster: &Cluster) -> Picture {
    let term = cluster.operators[0].report().term;
    let node = |node: &Node| PicturedNode {
        name: node.name.as_str().into(),
        address: Some("127.0.0.1".to_owned()),
        role: if node.name == "a" {
            NodeRole::Master
        } else {
            NodeRole::Slave
        },
        ready: true,
        behind: Some(0),
        message: format!("{} is as it should be", node.name),
    };
    Picture {
        term,
        master: Some("a".into()),
        phase: Phase::Healthy,
        nodes: cluster.nodes.iter().map(node).collect(),
        ..Picture::default()
    }
}

/// Shows a picture to every node and waits until each has it.
pub async fn show(cluster: &Cluster, picture: &Picture) {
    for (operator, node) in cluster.operators.iter().zip(&cluster.nodes) {
        operator.show(picture.clone());
        let begun = now();
        while node.fetch(READER, "/v1/cluster").await.must(200)["nodes"]
            .as_array()
            .map_or(0, Vec::len)
            < 3
        {
            assert!(
                begun.elapsed() < Duration::from_secs(5),
                "no picture on {}",
                node.name
            );
            sleep(Duration::from_millis(20)).await;
        }
    }
}

fn connections<'v>(of_nodes: &'v Value, node: &str) -> &'v Vec<Value> {
    let nodes = of_nodes["nodes"].as_array().unwrap();
    let found = nodes.iter().find(|one| one["node"] == node);
    found.unwrap()["processes"]
        .as_array()
        .unwrap_or_else(|| panic!("{of_nodes}"))
}

async fn delete(node: &Node, token: &str, path: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    node.request("DELETE", path, &[("Authorization", &bearer)], "")
        .await
        .unwrap()
}

pub async fn processes(cluster: &Cluster) {
    show(cluster, &picture(cluster)).await;
    let [master, slave] = [&cluster.nodes[0], &cluster.nodes[1]];
    let mut sleeper = master.app().await.unwrap();
    let asleep = tokio::spawn(async move {
        raw_sql("USE t; SELECT 'a secret value', SLEEP(30)")
            .execute(&mut sleeper)
            .await
    });
    let begun = now();
    let (id, all) = loop {
        let all = slave.fetch(ADMIN, "/v1/processes").await.must(200);
        let mut of_master = connections(&all, "a").iter();
        if let Some(found) = of_master.find(|one| one["statement"].to_string().contains("SLEEP")) {
            assert_eq!((&found["user"], &found["database"]), (&json!("app"), &json!("t")));
            break (found["id"].as_u64().unwrap(), all.clone());
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "{all}");
        sleep(Duration::from_millis(50)).await;
    };
    for node in ["a", "b", "c"] {
        assert!(!connections(&all, node).is_empty(), "{node}: {all}");
    }
    let told = slave.fetch(READER, "/v1/processes").await;
    told.must(200);
    assert!(!told.text.contains("secret value"), "values are for admin only");
    let limited = slave.fetch(LIMITED, "/v1/processes").await.must(200);
    assert!(connections(&limited, "a").is_empty(), "{limited}");
    slave.fetch(ADMIN, "/v1/processes?node=nowhere").await.must(404);
    let path = format!("/v1/processes/a/{id}");
    delete(slave, WRITER, &path).await.must(403);
    delete(slave, ADMIN, "/v1/processes/a/4000000000").await.must(404);
    let own = connections(&all, "a").iter().find(|one| one["user"] == "root");
    let own = format!("/v1/processes/a/{}", own.unwrap()["id"]);
    delete(slave, ADMIN, &own).await.must(409);
    assert_eq!(
        delete(slave, ADMIN, &path).await.must(200),
        json!({"node": "a", "id": id})
    );
    assert!(asleep.await.unwrap().is_err(), "the connection is ended");
    let records = master.fetch(ADMIN, "/v1/audit?outcome=applied").await.must(200);
    assert_eq!(
        records["records"][0]["object"],
        format!("a connection {id}"),
        "{records}"
    );
    println!("a connection to the master is seen and ended through a slave");
}

pub async fn diagnosis(cluster: &Cluster) {
    let slave = &cluster.nodes[1];
    let account = slave.directory.join("account");
    let write = |name: &str, text: &str| std::fs::write(account.join(name), text).unwrap();
    let check = async || slave.fetch(READER, "/v1/diagnose").await.must(200);
    let failed = |found: &Value| {
        let steps = found["steps"].as_array().unwrap();
        let failed = steps.iter().find(|step| step["ok"] == false).unwrap();
        assert!(failed["mend"].is_string(), "{found}");
        failed["step"].as_str().unwrap().to_owned()
    };
    assert_eq!(failed(&check().await), "secret", "there is no host yet");
    write("host", "localhost");
    write("port", &cluster.nodes[0].mysql_port.to_string());
    let whole = check().await;
    assert_eq!(whole["ok"], true, "{whole}");
    let names: Vec<&str> = whole["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["step"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["secret", "dns", "tcp", "tls", "login", "role", "write"]);
    println!("connection check: {}", whole["steps"]);
    write("host", "no-such-host.invalid");
    assert_eq!(failed(&check().await), "dns");
    write("host", "127.0.0.1");
    assert_eq!(
        failed(&check().await),
        "tls",
        "the certificate is not for the address"
    );
    write("host", "localhost");
    write("password", "wrong");
    let wrong = check().await;
    assert_eq!(failed(&wrong), "login");
    assert!(wrong["steps"][5]["ok"].is_null(), "{wrong}");
    assert_eq!(wrong["steps"][6]["ok"], true, "the write probe needs no password");
    write("password", PASSWORD);
    write("port", &cluster.nodes[2].mysql_port.to_string());
    assert_eq!(failed(&check().await), "role", "a slave takes no writes");
    write("port", "1");
    assert_eq!(failed(&check().await), "tcp");
    write("port", &cluster.nodes[0].mysql_port.to_string());
}

pub async fn bounded_reads(cluster: &Cluster) {
    let [master, slave] = [&cluster.nodes[0], &cluster.nodes[1]];
    let bearer = format!("Bearer {READER}");
    let read = async |bound: &str| {
        let headers = [("Authorization", bearer.as_str()), ("Consistency", bound)];
        let path = "/v1/databases/t/tables/age/rows?order=Id.desc&limit=1";
        slave.request("GET", path, &headers, "").await.unwrap()
    };
    let table = json!({"dbname":"t","table":"age","columns":{"n":"int"}});
    master.send(WRITER, "/createtable", &table).await.must(200);
    read("bounded=fast").await.must(400);
    slave.send(ADMIN, "/v1/cluster/beat", &json!({})).await.must(403);
    let mut here = 0;
    for number in 0..20 {
        let row = json!({"dbname":"t","table":"age","data":{"n":number}});
        master.send(WRITER, "/insert", &row).await.must(200);
        sleep(Duration::from_millis(250)).await;
        let answer = read("bounded=250ms").await;
        assert_eq!(
            answer.must(200)["rows"][0]["n"],
            number,
            "older than allowed: {answer:?}"
        );
        let age: u64 = answer.header("data-age").unwrap().parse().unwrap();
        assert!(age <= 250, "{answer:?}");
        here += u32::from(answer.header("served-by") == Some("b"));
    }
    // A busy machine is often later than that, and then the master answers.
    assert!(here >= 5, "the slave itself answered {here} of 20");
    // A slave that applies nothing proves nothing, so the master answers.
    let mut root = slave.root().await;
    raw_sql("STOP REPLICA SQL_THREAD")
        .execute(&mut root)
        .await
        .unwrap();
    sleep(Duration::from_millis(300)).await;
    let row = json!({"dbname":"t","table":"age","data":{"n":1000}});
    master.send(WRITER, "/insert", &row).await.must(200);
    sleep(Duration::from_millis(300)).await;
    let answer = read("bounded=250ms").await;
    assert_eq!(answer.must(200)["rows"][0]["n"], 1000);
    assert_eq!(answer.header("served-by"), Some("a"));
    raw_sql("START REPLICA SQL_THREAD")
        .execute(&mut root)
        .await
        .unwrap();
    println!("20 reads bounded to 250 ms, {here} of them answered by the slave itself");
}

/// Without collected statements the answer says how they are had, and what it says is right.
pub async fn statements(cluster: &mut Cluster) {
    let node = &cluster.nodes[2];
    let without = node.fetch(READER, "/v1/statements").await.must(200);
    assert_eq!(without["collected"], false);
    let mend = without["mend"].as_str().unwrap();
    let config = node.directory.join("my.cnf");
    let mut text = std::fs::read_to_string(&config).unwrap();
    for (name, value) in [
        ("performance_schema_digests_size", "500"),
        ("performance_schema_max_statement_classes", "250"),
        ("performance_schema_instrument", "'statement/%=ON'"),
    ] {
        assert!(mend.contains(&format!("{name}: \"{value}\"")), "{mend}");
        let _ = writeln!(text, "{name}={value}");
    }
    std::fs::write(&config, text).unwrap();
    signal(node.mysqld_pid(), "-KILL");
    let slave = &mut cluster.operators[2];
    slave.until("down", is_down).await;
    slave.until("up", |report| up(report).is_some()).await;
    let until = cluster.operators[0].state().executed;
    let command = follow(&cluster.nodes[0], &until);
    cluster.operators[2].done("follow a again", 1, command).await;
    cluster.operators[2].until("caught up", is_caught_up).await;
    let node = &cluster.nodes[2];
    let begun = now();
    loop {
        node.fetch(READER, "/select?dbname=t&table=r&limit=1").await;
        let with = node.fetch(READER, "/v1/statements").await;
        if with.status == 200 && with.json()["collected"] == true {
            let all = with.json();
            let all = all["statements"].as_array().unwrap().clone();
            let select = all.iter().find(|one| {
                one["statement"].as_str().unwrap().contains("FROM `t` . `r`")
                    && one["count"].as_u64() > Some(0)
            });
            if let Some(select) = select {
                println!("collected: {select}");
                break;
            }
        }
        assert!(begun.elapsed() < Duration::from_secs(40), "{with:?}");
        sleep(Duration::from_millis(200)).await;
    }
    let limited = node.fetch(LIMITED, "/v1/statements").await.must(200);
    assert_eq!(limited["statements"], json!([]), "{limited}");
}

/// A read that waits for a lock for longer than a second is recorded with its statement; quick ones are not.
pub async fn slow_reads(cluster: &Cluster) {
    let node = &cluster.nodes[0];
    let mut root = node.root().await;
    raw_sql("LOCK TABLES t.r WRITE").execute(&mut root).await.unwrap();
    let read = node.fetch(READER, "/select?dbname=t&table=r&limit=1");
    let unlock = async {
        sleep(Duration::from_millis(1200)).await;
        raw_sql("UNLOCK TABLES").execute(&mut root).await.unwrap();
    };
    let (answer, ()) = tokio::join!(read, unlock);
    answer.must(200);
    node.fetch(READER, "/select?dbname=t&table=r&limit=1")
        .await
        .must(200);
    let found = node.fetch(ADMIN, "/v1/audit?slow=true").await.must(200);
    let slow = &found["records"][0];
    assert_eq!(slow["operation"], "GET /select", "{found}");
    assert_eq!(slow["object"], "t.r", "{found}");
    assert!(slow["milliseconds"].as_u64() >= Some(1000), "{found}");
    assert!(
        slow["statement"].as_str().unwrap().contains("FROM `t`.`r`"),
        "{found}"
    );
    let quick = node
        .fetch(ADMIN, "/v1/audit?slow=false&object=t.r")
        .await
        .must(200);
    let records = quick["records"].as_array().unwrap();
    assert!(
        records
            .iter()
            .all(|record| record["operation"] != "GET /select" || record["status"] != 200),
        "{quick}"
    );
}

/// A Kubernetes token: the form is all that a node looks at.
fn signed(end: &str) -> String {
    let part = "e".repeat(40);
    format!("{part}.{part}.{part}{end}")
}

/// Wishes go to the operator that leads, with the term in which they were made; nothing is done by the node itself.
pub async fn wishes(cluster: &Cluster) {
    let slave = &cluster.nodes[1];
    let path = "/v1/cluster/switchover";
    let body = json!({"target": "b", "expectedTerm": 1});
    slave.send(WRITER, path, &body).await.must(403);
    let nobody = slave.send(ADMIN, path, &body).await.must(503);
    assert_eq!(nobody["outcome"], "unknown", "it may have been heard: {nobody}");
    assert!(
        nobody["detail"].as_str().unwrap().contains("operator"),
        "{nobody}"
    );
    *cluster.operators[1].answers.lock().unwrap() = Some(Box::new(|question| match question {
        Question::Wish { term, .. } if *term == Some(Term(7)) => Some(ToNodeAnswer::Refused {
            message: "the database is in term 1".to_owned(),
        }),
        Question::Wish { .. } => Some(ToNodeAnswer::Accepted),
        Question::Review { .. } => None,
    }));
    cluster.operators[1].questions.lock().unwrap().clear();
    let accepted = slave.send(ADMIN, path, &body).await;
    assert_eq!(accepted.must(202)["accepted"], true);
    assert_eq!(accepted.header("location"), Some("/v1/cluster/events"));
    let stale = json!({"target": "b", "expectedTerm": 7});
    slave.send(ADMIN, path, &stale).await.must(409);
    slave
        .send(ADMIN, path, &json!({"target": "nobody"}))
        .await
        .must(404);
    slave.send(ADMIN, path, &json!({"goal": "b"})).await.must(400);
    slave.send(ADMIN, path, &json!({})).await.must(202);
    let resync = "/v1/cluster/nodes/c/resync";
    slave.send(ADMIN, resync, &Value::Null).await.must(400);
    slave.send(ADMIN, resync, &json!({})).await.must(202);
    let full = "/sync?mode=full";
    slave.fetch(WRITER, full).await.must(403);
    cluster.nodes[0].fetch(ADMIN, full).await.must(409);
    slave.fetch(ADMIN, full).await.must(202);
    let facts = slave.fetch(READER, "/v1/cluster/nodes/b").await.must(200);
    assert_eq!(facts["message"], "b is as it should be");
    let asked = cluster.operators[1].questions.lock().unwrap().clone();
    let term = Some(Term(1));
    let to = |node: Option<&str>| WireWish::Switchover {
        to: node.map(Into::into),
    };
    let again = |node: &str| WireWish::Resync { node: node.into() };
    let expected = [
        (to(Some("b")), term),
        (to(Some("b")), Some(Term(7))),
        (to(None), None),
        (again("c"), None),
        (again("b"), None),
    ];
    let expected = expected.map(|(wish, term)| Question::Wish { wish, term });
    assert_eq!(asked, expected);
    let records = slave.fetch(ADMIN, "/v1/audit?outcome=applied").await.must(200);
    assert_eq!(records["records"][0]["object"], "resync of b", "{records}");
}

/// A service account is let in as the operator says, and what it said is remembered.
pub async fn service_accounts(cluster: &Cluster) {
    let node = &cluster.nodes[2];
    let [writer, nobody] = ["w", "n"].map(signed);
    let know = writer.clone();
    node.fetch(&writer, "/databases").await.must(503);
    *cluster.operators[2].answers.lock().unwrap() = Some(Box::new(move |question| match question {
        Question::Review { token } if token.0 == know => Some(ToNodeAnswer::Account {
            account: "ns/web".to_owned(),
            role: "writer".to_owned(),
            databases: Some(vec!["shop".to_owned()]),
        }),
        Question::Review { .. } => Some(ToNodeAnswer::Nobody),
        Question::Wish { .. } => None,
    }));
    // The master's node reviews what is forwarded to it by itself.
    let account = ToNodeAnswer::Account {
        account: "ns/web".to_owned(),
        role: "writer".to_owned(),
        databases: Some(vec!["shop".to_owned()]),
    };
    *cluster.operators[0].answers.lock().unwrap() = Some(Box::new(move |_| Some(account.clone())));
    cluster.operators[2].questions.lock().unwrap().clear();
    for _ in 0..3 {
        let databases = node.fetch(&writer, "/databases").await.must(200);
        assert_eq!(databases["databases"], json!(["shop"]));
    }
    node.fetch(&writer, "/select?dbname=t&table=r").await.must(403);
    let table = json!({"dbname":"shop","table":"of_account","columns":{"n":"int"}});
    node.send(&writer, "/createtable", &table).await.must(200);
    let keyed = [("Idempotency-Key", "of an account")];
    let row = json!({"dbname":"shop","table":"of_account","data":{"n":1}});
    node.send_with(&writer, "/insert", &keyed, &row)
        .await
        .unwrap()
        .must(200);
    let again = node.send_with(&writer, "/insert", &keyed, &row).await.unwrap();
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    let refused = node.fetch(&nobody, "/databases").await.must(401);
    assert!(
        refused["detail"].as_str().unwrap().contains("audience"),
        "{refused}"
    );
    let asked = cluster.operators[2].questions.lock().unwrap().len();
    assert_eq!(asked, 2, "each token is reviewed once");
    let records = cluster.nodes[0]
        .fetch(ADMIN, "/v1/audit?who=sa/ns/web")
        .await
        .must(200);
    assert!(
        records["records"].as_array().is_some_and(|all| all.len() >= 3),
        "{records}"
    );
    let log = std::fs::read_to_string(node.directory.join("agent.log")).unwrap();
    assert!(!log.contains(&writer), "no log shows a token");
}

/// A change of master is told live, step by step, and is remembered with its proof.
pub async fn events(cluster: &Cluster) {
    let node = &cluster.nodes[1];
    let mut events = node.follow_events("/v1/cluster/events", READER).await;
    let first = events.next().await;
    assert_eq!((first.0.as_str(), &first.1["node"]), ("cluster", &json!("b")));
    let intent = Intent {
        kind: Kind::Failover,
        cause: Cause::ServerDied,
        from: Some("a".into()),
        to: None,
    };
    let steps = |names: &[&str]| -> BTreeMap<String, u64> {
        names
            .iter()
            .zip(10_u64..)
            .map(|(name, at)| ((*name).to_owned(), at))
            .collect()
    };
    let kept: GtidSet = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5".parse().unwrap();
    let term = cluster.operators[1].report().term;
    let usual = picture(cluster);
    let changing = |names: &[&str], candidate: Option<&str>| Picture {
        master: None,
        phase: Phase::FailingOver,
        change: Some(PicturedChange {
            term,
            intent: intent.clone(),
            steps: steps(names),
            candidate: candidate.map(Into::into),
            kept: candidate.map(|_| kept.clone()).unwrap_or_default(),
            waiting_for: vec!["b to confirm its fence".to_owned()],
        }),
        ..usual.clone()
    };
    cluster.operators[1].show(changing(&["recorded"], None));
    let begun = events.of("change").await;
    assert_eq!(
        (&begun["kind"], &begun["from"]),
        (&json!("Failover"), &json!("a"))
    );
    assert_eq!(begun["steps"], json!({"recorded": 10}));
    assert_eq!(events.of("cluster").await["database"], "FailingOver");
    cluster.operators[1].show(changing(&["fenced", "recorded"], Some("b")));
    let fenced = events.of("change").await;
    assert_eq!(
        (&fenced["to"], &fenced["kept"]),
        (&json!("b"), &json!(kept.to_string()))
    );
    let now_under_way = node.fetch(READER, "/v1/cluster/failovers").await.must(200);
    assert!(now_under_way["failovers"][0]["at"].is_null(), "{now_under_way}");
    cluster.operators[1].show(Picture {
        changes: vec![PicturedFailover {
            at: "2026-01-01T00:00:00Z".to_owned(),
            change: Change {
                term,
                intent: intent.clone(),
                master: "b".into(),
                steps: steps(&["drained", "fenced", "led", "promoted", "recorded", "routed"]),
                total: 14,
                may_be_lost: None,
                kept: kept.clone(),
            },
        }],
        last_request: Some(PicturedRequest {
            at: "2026-01-01T00:00:00Z".to_owned(),
            done: true,
            message: "b leads".to_owned(),
        }),
        ..usual.clone()
    });
    let complete = events.of("failover").await;
    assert_eq!(
        (&complete["total"], &complete["kept"]),
        (&json!(14), &json!(kept.to_string()))
    );
    assert_eq!(events.of("request").await["message"], "b leads");
    let path = format!("/v1/cluster/failovers/{}", term.0);
    assert_eq!(node.fetch(READER, &path).await.must(200), complete);
    node.fetch(READER, "/v1/cluster/failovers/4000").await.must(404);
    assert_eq!(
        node.fetch(READER, "/v1/cluster").await.must(200)["lastRequest"]["done"],
        true
    );
    println!("a change of master was told live, step by step");
}
