CREATE TABLE schema_version (
    version INTEGER NOT NULL,
    PRIMARY KEY (version)
);
CREATE TABLE arrivals (
    arrival_id VARCHAR(64) NOT NULL,
    source VARCHAR(16) NOT NULL,
    peer_ae_title VARCHAR(16) NOT NULL,
    peer_host VARCHAR(255) NOT NULL,
    email JSON NOT NULL,
    opened_at DATETIME NOT NULL,
    closed_at DATETIME,
    outcome VARCHAR(16),
    finished BOOLEAN NOT NULL,
    PRIMARY KEY (arrival_id)
);
CREATE TABLE cases (
    case_id VARCHAR(16) NOT NULL,
    case_key VARCHAR(64),
    study_uid VARCHAR(128),
    series_uid VARCHAR(128),
    revision INTEGER NOT NULL,
    aligned_path TEXT,
    state VARCHAR(16) NOT NULL,
    reason VARCHAR(32),
    detail TEXT NOT NULL,
    failed_stage VARCHAR(16),
    superseded_by VARCHAR(16),
    model VARCHAR(64),
    email JSON NOT NULL,
    attempts INTEGER NOT NULL,
    holder VARCHAR(128),
    lease_until DATETIME,
    created_at DATETIME NOT NULL,
    last_stored_at DATETIME NOT NULL,
    updated_at DATETIME NOT NULL,
    core_ml FLOAT,
    side VARCHAR(8),
    alert BOOLEAN,
    files_removed BOOLEAN NOT NULL,
    PRIMARY KEY (case_id),
    UNIQUE (series_uid, revision),
    UNIQUE (case_key)
);
CREATE INDEX cases_by_state ON cases (state);
CREATE TABLE commitments_owed (
    id VARCHAR(64) NOT NULL,
    transaction_uid VARCHAR(64) NOT NULL,
    peer_ae_title VARCHAR(16) NOT NULL,
    peer_host VARCHAR(255) NOT NULL,
    instances JSON NOT NULL,
    asked_at DATETIME NOT NULL,
    attempts INTEGER NOT NULL,
    next_attempt_at DATETIME,
    ended_at DATETIME,
    detail TEXT NOT NULL,
    PRIMARY KEY (id)
);
CREATE INDEX commitments_owed_waiting ON commitments_owed (next_attempt_at);
CREATE TABLE outbox (
    id INTEGER NOT NULL,
    stage VARCHAR(16) NOT NULL,
    case_id VARCHAR(16) NOT NULL,
    destination VARCHAR(64),
    created_at DATETIME NOT NULL,
    not_before DATETIME NOT NULL,
    published_at DATETIME,
    PRIMARY KEY (id)
);
CREATE INDEX outbox_waiting ON outbox (published_at, not_before);
CREATE TABLE audit (
    id INTEGER NOT NULL,
    at DATETIME NOT NULL,
    case_id VARCHAR(16),
    event VARCHAR(64) NOT NULL,
    detail JSON NOT NULL,
    PRIMARY KEY (id)
);
CREATE INDEX audit_by_case ON audit (case_id);
CREATE TABLE letters (
    event_key VARCHAR(32) NOT NULL,
    recipient VARCHAR(320) NOT NULL,
    about VARCHAR(16) NOT NULL,
    destination VARCHAR(64) NOT NULL,
    kind VARCHAR(16) NOT NULL,
    message_id VARCHAR(320) NOT NULL,
    state VARCHAR(16) NOT NULL,
    attempts INTEGER NOT NULL,
    begun_at DATETIME,
    ended_at DATETIME,
    detail TEXT NOT NULL,
    PRIMARY KEY (event_key, recipient)
);
CREATE INDEX letters_by_about ON letters (about);
CREATE INDEX letters_by_time ON letters (destination, ended_at);
CREATE TABLE mail_places (
    id INTEGER NOT NULL,
    destination VARCHAR(64) NOT NULL,
    about VARCHAR(16) NOT NULL,
    digest BOOLEAN NOT NULL,
    at DATETIME NOT NULL,
    PRIMARY KEY (id)
);
CREATE INDEX mail_places_by_time ON mail_places (destination, at);
CREATE TABLE instances (
    sop_instance_uid VARCHAR(128) NOT NULL,
    series_uid VARCHAR(128) NOT NULL,
    first_revision INTEGER NOT NULL,
    arrival_id VARCHAR(64) NOT NULL,
    path TEXT NOT NULL,
    sha256 VARCHAR(64) NOT NULL,
    stored_at DATETIME NOT NULL,
    header JSON NOT NULL,
    PRIMARY KEY (sop_instance_uid),
    FOREIGN KEY(arrival_id) REFERENCES arrivals (arrival_id)
);
CREATE INDEX instances_by_series ON instances (series_uid);
CREATE INDEX instances_by_arrival ON instances (arrival_id);
CREATE TABLE set_aside (
    path TEXT NOT NULL,
    arrival_id VARCHAR(64) NOT NULL,
    kind VARCHAR(16) NOT NULL,
    detail TEXT NOT NULL,
    at DATETIME NOT NULL,
    PRIMARY KEY (path),
    FOREIGN KEY(arrival_id) REFERENCES arrivals (arrival_id)
);
CREATE INDEX set_aside_by_arrival ON set_aside (arrival_id);
CREATE TABLE series_arrivals (
    series_uid VARCHAR(128) NOT NULL,
    arrival_id VARCHAR(64) NOT NULL,
    PRIMARY KEY (series_uid, arrival_id),
    FOREIGN KEY(arrival_id) REFERENCES arrivals (arrival_id)
);
CREATE TABLE deliveries (
    case_id VARCHAR(16) NOT NULL,
    destination VARCHAR(64) NOT NULL,
    state VARCHAR(16) NOT NULL,
    planned_at DATETIME NOT NULL,
    attempts INTEGER NOT NULL,
    lease_until DATETIME,
    next_attempt_at DATETIME,
    detail TEXT NOT NULL,
    sent_at DATETIME,
    holder VARCHAR(128),
    digest VARCHAR(16),
    PRIMARY KEY (case_id, destination),
    FOREIGN KEY(case_id) REFERENCES cases (case_id)
);
CREATE INDEX deliveries_by_state ON deliveries (state);
CREATE TABLE commitments_asked (
    transaction_uid VARCHAR(64) NOT NULL,
    case_id VARCHAR(16) NOT NULL,
    destination VARCHAR(64) NOT NULL,
    instances JSON NOT NULL,
    asked_at DATETIME NOT NULL,
    deadline DATETIME NOT NULL,
    reported_at DATETIME,
    committed JSON,
    failed JSON,
    PRIMARY KEY (transaction_uid),
    FOREIGN KEY(case_id) REFERENCES cases (case_id)
);
CREATE INDEX commitments_asked_by_delivery ON commitments_asked (case_id, destination);
CREATE TABLE alerts (
    case_id VARCHAR(16) NOT NULL,
    raised_at DATETIME NOT NULL,
    acknowledged_at DATETIME,
    acknowledged_by VARCHAR(200),
    acknowledged_as VARCHAR(64),
    PRIMARY KEY (case_id),
    FOREIGN KEY(case_id) REFERENCES cases (case_id)
);
CREATE TABLE escalations (
    case_id VARCHAR(16) NOT NULL,
    level INTEGER NOT NULL,
    due_at DATETIME NOT NULL,
    state VARCHAR(16) NOT NULL,
    ended_at DATETIME,
    PRIMARY KEY (case_id, level),
    FOREIGN KEY(case_id) REFERENCES cases (case_id)
);
CREATE INDEX escalations_by_time ON escalations (state, due_at);
INSERT INTO schema_version (version) VALUES (2);
