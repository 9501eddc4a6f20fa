//! What files say, and what is said of those that cannot be used.

use super::*;

fn load(text: &str) -> Result<Config, ConfigError> {
    Config::from_text(text, Some(Path::new("test.ini")), Some(Path::new("/r")))
}

#[test]
fn an_unknown_key_names_the_nearest_known_one() {
    let said = |text: &str| load(text).unwrap_err().to_string();
    assert_eq!(
        said("[worker]\nslot = 2\n"),
        "test.ini: unknown key 'slot' in section [worker], did you mean 'slots'?"
    );
    assert_eq!(said("[wroker]\nslots = 2\n"), "test.ini: unknown section [wroker], did you mean 'worker'?");
    assert_eq!(said("[worker]\ncolour = red\n"), "test.ini: unknown key 'colour' in section [worker]");
}

#[test]
fn values_of_the_wrong_type_are_refused() {
    assert!(load("[worker]\nslots = many\n").is_err());
    assert!(load("[worker]\nslots = 0\n").is_err());
    assert!(load("[bstore]\nscratch_in_repo = maybe\n").is_err());
    assert!(load("[worker]\nengine = docker\n").is_err());
    assert!(load("[mock]\nbase_url = bstore\n").is_err());
    assert!(load("[mock]\nbase_url = http://h/' + evil() + '\n").is_err());
    assert!(load("[mock]\nupdate = sometimes\n").is_err());
    assert!(load("[mock]\nstale_after = -1\n").is_err());
}

#[test]
fn mocks_configurations_are_below_the_root_unless_said_otherwise() {
    let usual = load("").unwrap();
    assert_eq!(usual.layout.mock_configs(), Path::new("/r/mock_configs/mock"));
    assert_eq!(usual.layout.mock_own_configs(), Path::new("/etc/mock"));
    assert_eq!(usual.mock.base_url, "http://localhost:11081/bstore");
    let other = load("[mock]\nconfigs = cfg\nown_configs = /opt/mock\nupdate = no\n").unwrap();
    assert_eq!(other.layout.mock_configs(), Path::new("/r/cfg"));
    assert_eq!(other.layout.mock_own_configs(), Path::new("/opt/mock"));
    assert_eq!((other.mock.update, usual.mock.update), (Some(false), None));
}

#[test]
fn limits_are_sizes_and_numbers() {
    let text = "[worker]\nmemory = 8G\nprocesses = 2000\ncpus = 1.5\ndisk = 20g\nmin_free = 0\n";
    let config = load(text).unwrap();
    let limits = Limits {
        memory: Some(Size(8 << 30)),
        processes: Some(2000),
        cpus: Some(1.5),
        disk: Some(Size(20 << 30)),
    };
    assert_eq!((config.limits, config.min_free), (limits, Size(0)));
    assert_eq!(load("").unwrap().limits, Limits::default());
    for bad in ["memory = much", "memory = 1M", "processes = 1", "cpus = 0", "cpus = nan", "disk = -1G"] {
        assert!(load(&format!("[worker]\n{bad}\n")).is_err(), "{bad}");
    }
    let said = load("[worker]\ndisk = big\n").unwrap_err().to_string();
    assert_eq!(
        said,
        "test.ini: disk in section [worker] is 'big', but must be a size such as 64M or 8G, from 16 MiB to 1048576 TiB"
    );
}

#[test]
fn the_history_is_where_its_url_says_and_a_password_is_never_shown() {
    assert_eq!(load("").unwrap().history, HistoryPlace::Root);
    let own = load("[history]\nurl = sqlite:h.db\n").unwrap();
    assert_eq!(own.history, HistoryPlace::Sqlite("/r/h.db".into()));
    let fleet = load("[history]\nurl = mongodb://u:geheim@db:27017/?tls=true\n").unwrap();
    assert_eq!(
        fleet.history,
        HistoryPlace::Mongodb(MongodbUrl::new("mongodb://u:geheim@db:27017/?tls=true"))
    );
    assert!(!format!("{fleet:?}").contains("geheim"));
    for bad in ["mysql://u:geheim@db", "mongodb://", "sqlite:", "db:27017", "mongodb+srv://u:geheim@db"] {
        let said = load(&format!("[history]\nurl = {bad}\n")).unwrap_err().to_string();
        assert!(said.ends_with("but must be mongodb://HOST:PORT or sqlite:PATH"), "{said}");
        assert!(!said.contains("geheim"), "{said}");
    }
}

#[test]
fn tls_files_are_below_the_root_unless_said_otherwise_and_a_key_needs_its_certificate() {
    let tls = load("[tls]\nca_cert = tls/ca.pem\ntls_cert = /etc/c.pem\n").unwrap().tls;
    assert_eq!(tls.ca_cert.as_deref(), Some(Path::new("/r/tls/ca.pem")));
    assert_eq!((tls.tls_cert.as_deref(), tls.tls_key), (Some(Path::new("/etc/c.pem")), None));
    assert!(load("[tls]\ntls_key = k.pem\n").is_err());
}

#[test]
fn false_means_false_in_every_spelling_sites_use() {
    for no in ["False", "no", "0", "off", "FALSE"] {
        assert!(!load(&format!("[bstore]\nscratch_in_repo = {no}\n")).unwrap().scratch_in_repo);
    }
    assert!(load("[bstore]\nscratch_in_repo = Yes\n").unwrap().scratch_in_repo);
}

#[test]
fn an_existing_sites_file_is_accepted() {
    let site = "[bstore]\nbase_url = http://h/\n[scm]\ngit_url = https://g\n[logs]\nlogfile = /x.log\n\
        [mail]\nnotifications = True\nmail_from = a@b\n[mail_rcpts]\nx86_64 = a@b, c@d\n\
        [mqtt]\nnotifications = False\nhost = h\nport = 8883\ntls_insecure = False\ntopic = reimzul\n";
    let config = load(site).unwrap();
    assert_eq!(config.logfile, Path::new("/x.log"));
    let broker = config.mqtt.unwrap();
    assert_eq!((broker.address.to_string().as_str(), broker.tls.insecure), ("h:8883", false));
}

#[test]
fn the_sample_configuration_is_the_defaults() {
    let sample = include_str!("../../config/reimzul.ini");
    let (sample, defaults) = (load(sample).unwrap(), load("").unwrap());
    assert_eq!(format!("{sample:?}"), format!("{defaults:?}"));
}
