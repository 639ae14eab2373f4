//! Checks of values beyond their types.

use super::{Settings, SettingsError};

impl Settings {
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        let at_least_one = [
            ("login_days", u64::from(self.login_days)),
            ("git_stall_seconds", self.git_stall_seconds),
            ("git_files", self.git_files),
            ("git_bytes", self.git_bytes),
            ("git_fetch_bytes", self.git_fetch_bytes),
            ("git_mirror_days", u64::from(self.git_mirror_days)),
            ("ssh_connect_seconds", self.ssh_connect_seconds),
            ("ssh_idle_seconds", self.ssh_idle_seconds),
            ("ssh_connections", self.ssh_connections as u64),
            ("ssh_connects_at_once", self.ssh_connects_at_once as u64),
            ("ssh_rest_seconds", self.ssh_rest_seconds),
            ("audit_days", u64::from(self.audit_days)),
            ("command_seconds", self.command_seconds),
            ("step_seconds", self.step_seconds),
            ("releases_at_once", self.releases_at_once as u64),
            ("servers_at_once", self.servers_at_once as u64),
            ("queue_messages", self.queue_messages as u64),
            ("room_messages", u64::from(self.room_messages)),
            ("room_days", u64::from(self.room_days)),
            ("clients", u64::from(self.clients)),
            ("address_clients", u64::from(self.address_clients)),
            ("poll_rooms", u64::from(self.poll_rooms)),
            ("message_bytes", u64::from(self.message_bytes)),
            (
                "client_messages_second",
                u64::from(self.client_messages_second),
            ),
            (
                "client_messages_burst",
                u64::from(self.client_messages_burst),
            ),
            (
                "address_messages_second",
                u64::from(self.address_messages_second),
            ),
            (
                "address_messages_burst",
                u64::from(self.address_messages_burst),
            ),
            ("connections", u64::from(self.connections)),
            ("body_seconds", self.body_seconds),
            ("drain_seconds", self.drain_seconds),
        ];
        for (name, value) in at_least_one {
            if value == 0 {
                return Err(SettingsError::Bounds {
                    name,
                    why: "must be at least 1",
                });
            }
        }
        let folders = [
            ("ssh_key_folders", &self.ssh_key_folders),
            ("build_read_folders", &self.build_read_folders),
            ("build_write_folders", &self.build_write_folders),
        ];
        for (name, folders) in folders {
            if !folders.iter().all(|folder| folder.is_absolute()) {
                return Err(SettingsError::Bounds {
                    name,
                    why: "must be absolute paths",
                });
            }
        }
        let is_origin = |url: &String| {
            url::Url::parse(url)
                .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        };
        if !self.public_urls.iter().all(is_origin) {
            return Err(SettingsError::Bounds {
                name: "public_urls",
                why: "must be addresses such as https://deploy.example.com",
            });
        }
        let at_most = [
            (
                "message_bytes",
                self.message_bytes,
                65_536,
                "must be at most 65536",
            ),
            ("poll_rooms", self.poll_rooms, 256, "must be at most 256"),
        ];
        for (name, value, most, why) in at_most {
            if value > most {
                return Err(SettingsError::Bounds { name, why });
            }
        }
        if self.servers_at_once > 64 || self.releases_at_once > 64 {
            return Err(SettingsError::Bounds {
                name: "servers_at_once, releases_at_once",
                why: "must be at most 64",
            });
        }
        Ok(())
    }
}
