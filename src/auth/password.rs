//! Passwords: rules for new ones, and their hashing.

use std::sync::{Condvar, Mutex, PoisonError};

use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};

use super::AuthError;
use crate::secret::Secret;

/// The shortest password, in characters.
pub const SHORTEST_PASSWORD: usize = 8;
/// The longest password, in characters; hashing longer ones only costs time.
pub const LONGEST_PASSWORD: usize = 256;

/// The costs of argon2id: memory in KiB, passes, parallel lanes.
const MEMORY: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// A hash that matches no account, so that a login with an unknown name takes as long as any other.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$bG9uZ3Nob3Jlbm9ib2R5\
                      $4Tz1pjHwpMzQyEhZyWMuZ0vSk2kxV8GUYkpd2GF4BHk";

/// The fewest guesses that a password must withstand against an attacker who knows the account name
/// and tries common passwords, words, names, dates and keyboard rows first.
const FEWEST_GUESSES: u64 = 100_000_000;
/// Words that an attacker of this installation guesses first.
const OUR_WORDS: [&str; 3] = ["longshore", "deploy", "release"];

/// Reasons for which a new password is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPassword {
    /// Shorter than [`SHORTEST_PASSWORD`].
    #[error("a password has at least {SHORTEST_PASSWORD} characters")]
    TooShort,
    /// Longer than [`LONGEST_PASSWORD`].
    #[error("a password has at most {LONGEST_PASSWORD} characters")]
    TooLong,
    /// Found by fewer than [`FEWEST_GUESSES`].
    #[error("this password is too easy to guess")]
    Common,
}

/// Refuses passwords that are easy to guess for the account `name`.
///
/// # Errors
/// The reason for the refusal.
pub fn check_new(name: &str, password: &Secret<String>) -> Result<(), BadPassword> {
    let password = password.expose();
    let length = password.chars().count();
    if length < SHORTEST_PASSWORD {
        return Err(BadPassword::TooShort);
    }
    if length > LONGEST_PASSWORD {
        return Err(BadPassword::TooLong);
    }
    let parts = name.split(|c: char| !c.is_alphanumeric());
    let known: Vec<&str> = parts.chain([name]).chain(OUR_WORDS).collect();
    if zxcvbn::zxcvbn(password, &known).guesses() < FEWEST_GUESSES {
        return Err(BadPassword::Common);
    }
    Ok(())
}

/// The number of passwords hashed at once; each takes 19 MiB.
const HASHES_AT_ONCE: usize = 4;

/// A semaphore for hashing, so that a flood of logins does not take all memory and processors.
pub struct Turns {
    free: Mutex<usize>,
    freed: Condvar,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            free: Mutex::new(HASHES_AT_ONCE),
            freed: Condvar::new(),
        }
    }
}

impl Turns {
    /// Waits for a permit, which lasts until the guard is dropped.
    pub fn take(&self) -> Turn<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self
            .freed
            .wait_while(free, |free| *free == 0)
            .unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Turn(self)
    }
}

/// A permit to hash.
pub struct Turn<'a>(&'a Turns);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

fn hasher() -> Result<Argon2<'static>, AuthError> {
    let params = Params::new(MEMORY, PASSES, LANES, None)
        .map_err(|error| AuthError::Hash(error.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// The hash to store, in PHC string format.
///
/// # Errors
/// [`AuthError::Hash`] if hashing fails, for lack of memory.
pub fn hash(password: &Secret<String>) -> Result<String, AuthError> {
    let salt = SaltString::generate(&mut OsRng);
    hasher()?
        .hash_password(password.expose().as_bytes(), &salt)
        .map(|hash| hash.to_string())
        .map_err(|error| AuthError::Hash(error.to_string()))
}

/// True if `password` matches `hash`. Without a hash (an unknown name) false, after the same time.
pub fn verify(password: &Secret<String>, hash: Option<&str>) -> bool {
    let given = password.expose();
    if given.chars().count() > LONGEST_PASSWORD {
        return false;
    }
    let fits = PasswordHash::new(hash.unwrap_or(NOBODY)).is_ok_and(|parsed| {
        Argon2::default()
            .verify_password(given.as_bytes(), &parsed)
            .is_ok()
    });
    fits && hash.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    #[test]
    fn only_the_right_password_fits_its_hash() {
        let kept = hash(&secret("correct horse")).unwrap();
        assert!(
            kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{kept}"
        );
        assert!(verify(&secret("correct horse"), Some(&kept)));
        assert!(!verify(&secret("correct hors"), Some(&kept)));
        assert!(!verify(&secret("correct horse"), None));
        assert!(!verify(&secret("correct horse"), Some("garbage")));
    }

    #[test]
    fn nobodys_hash_costs_what_a_hash_costs() {
        let nobody = PasswordHash::new(NOBODY).unwrap();
        let kept = hash(&secret("correct horse")).unwrap();
        let real = PasswordHash::new(&kept).unwrap();
        assert_eq!(nobody.algorithm, real.algorithm);
        assert_eq!(nobody.version, real.version);
        assert_eq!(nobody.params.to_string(), real.params.to_string());
        assert_eq!(nobody.hash.unwrap().len(), real.hash.unwrap().len());
    }

    #[test]
    fn easy_passwords_are_refused() {
        for (password, expected) in [
            ("seven77", Err(BadPassword::TooShort)),
            ("密码密码密码密", Err(BadPassword::TooShort)),
            ("蓝鲸骑车过桥去了", Ok(())),
            ("密码密码密码密码", Err(BadPassword::Common)),
            ("Password1", Err(BadPassword::Common)),
            ("JasonJason", Err(BadPassword::Common)),
            ("correct horse", Ok(())),
            ("tr0ub4dor&3-owl", Ok(())),
            ("xK9#mQ2$vL", Ok(())),
            ("P@ssw0rd!", Err(BadPassword::Common)),
            ("password2026", Err(BadPassword::Common)),
            ("Longshore2026!", Err(BadPassword::Common)),
            ("jasonjason1", Err(BadPassword::Common)),
            ("qwertyuiop[]", Err(BadPassword::Common)),
            ("1qaz2wsx3edc", Err(BadPassword::Common)),
            ("zxcvbnm,./", Err(BadPassword::Common)),
            ("asdfghjkl;'", Err(BadPassword::Common)),
            ("20261130", Err(BadPassword::Common)),
            ("abcdefghijkl", Err(BadPassword::Common)),
            ("aaaaaaaaaaaa", Err(BadPassword::Common)),
            ("trustno1trustno1", Err(BadPassword::Common)),
            ("liverpool", Err(BadPassword::Common)),
            ("sunshine1", Err(BadPassword::Common)),
            ("woaini1314", Err(BadPassword::Common)),
        ] {
            assert_eq!(
                check_new("jasonjason", &secret(password)),
                expected,
                "{password}"
            );
        }
        let long = secret(&"x".repeat(LONGEST_PASSWORD + 1));
        assert_eq!(check_new("ann", &long), Err(BadPassword::TooLong));
    }
}
