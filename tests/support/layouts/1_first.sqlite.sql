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
    attempts INTEGER NOT NULL,
    lease_until DATETIME,
    next_attempt_at DATETIME,
    detail TEXT NOT NULL,
    sent_at DATETIME,
    PRIMARY KEY (case_id, destination),
    FOREIGN KEY(case_id) REFERENCES cases (case_id)
);
CREATE INDEX deliveries_by_state ON deliveries (state);
