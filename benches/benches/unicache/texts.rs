//! The texts that are measured: made up, of real names and of what a web server logs, as skewed as
//! such things are.

use omnipaxos::macros::{Entry, UniCacheEntry};
use serde::{Deserialize, Serialize};

/// Frequent first names, most frequent first.
const FIRST_NAMES: &str = "James Mary Robert Patricia John Jennifer Michael Linda David Elizabeth \
    William Barbara Richard Susan Joseph Jessica Thomas Karen Christopher Sarah Charles Lisa Daniel \
    Nancy Matthew Sandra Anthony Betty Mark Ashley Donald Emily Steven Kimberly Andrew Margaret Paul \
    Donna Joshua Michelle Kenneth Carol Kevin Amanda Brian Melissa Timothy Deborah Ronald Stephanie \
    George Rebecca Jason Sharon Edward Laura Jeffrey Cynthia Ryan Dorothy Jacob Amy Nicholas Kathleen \
    Gary Angela Eric Shirley Jonathan Emma Stephen Brenda Larry Pamela Justin Nicole Scott Anna Brandon \
    Samantha Benjamin Katherine Samuel Christine Gregory Debra Alexander Rachel Patrick Carolyn Frank \
    Janet Raymond Maria Jack Olivia Dennis Heather Jerry Helen";

/// Frequent last names, most frequent first.
const LAST_NAMES: &str = "Smith Johnson Williams Brown Jones Garcia Miller Davis Rodriguez Martinez \
    Hernandez Lopez Gonzalez Wilson Anderson Thomas Taylor Moore Jackson Martin Lee Perez Thompson \
    White Harris Sanchez Clark Ramirez Lewis Robinson Walker Young Allen King Wright Scott Torres \
    Nguyen Hill Flores Green Adams Nelson Baker Hall Rivera Campbell Mitchell Carter Roberts Gomez \
    Phillips Evans Turner Diaz Parker Cruz Edwards Collins Reyes Stewart Morris Morales Murphy Cook \
    Rogers Gutierrez Ortiz Morgan Cooper Peterson Bailey Reed Kelly Howard Ramos Kim Cox Ward \
    Richardson Watson Brooks Chavez Wood James Bennett Gray Mendoza Ruiz Hughes Price Alvarez Castillo \
    Sanders Patel Myers Long Ross Foster Jimenez";

/// Jobs of many, most frequent first.
const JOBS: &str = "retail salesperson,registered nurse,cashier,office clerk,food preparation worker,\
    customer service representative,waiter,janitor,general manager,stock clerk,truck driver,secretary,\
    bookkeeper,elementary school teacher,nursing assistant,personal care aide,sales representative,\
    maintenance worker,security guard,cook,accountant,teacher assistant,housekeeper,landscaper,\
    construction labourer,software developer,receptionist,carpenter,electrician,police officer,lawyer,\
    automotive mechanic,plumber,civil engineer,physician,bartender,machinist,graphic designer,\
    firefighter,pharmacist,dental assistant,hairdresser,real estate agent,mechanical engineer,\
    social worker,financial analyst,bus driver,physiotherapist,librarian,journalist";

const AGENTS: [&str; 8] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_2 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.2 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.1 Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64; rv:121.0) Gecko/20100101 Firefox/121.0",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "curl/8.4.0",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
];

/// Made again for each measurement, in the same way.
pub(crate) trait Text: Sized {
    /// What it is called in the table.
    const NAME: &'static str;

    /// This number of entries.
    fn many(entries: u64) -> Vec<Self>;
}

/// Numbers that look random, the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// Ranks of which the k-th comes with a weight of 1/k.
struct Zipf(Vec<u64>);

impl Zipf {
    fn of(ranks: usize) -> Self {
        let mut sum = 0;
        Self(
            (1..=ranks as u64)
                .map(|rank| {
                    sum += (1 << 20) / rank;
                    sum
                })
                .collect(),
        )
    }

    fn roll(&self, dice: &mut Dice) -> usize {
        let most = self.0.last().copied().unwrap_or(1);
        let at = dice.roll(most);
        self.0.partition_point(|sum| *sum <= at)
    }
}

/// The same struct without and with caches.
macro_rules! text {
    ($plain:ident, $cached:ident, $name:literal, { $($(#[$cache:meta])? $field:ident: $ty:ty),* $(,)? }, $make:expr) => {
        #[derive(Clone, Debug, Serialize, Deserialize, Entry)]
        pub(crate) struct $plain { $($field: $ty),* }

        #[derive(Clone, Debug, Serialize, Deserialize, UniCacheEntry)]
        pub(crate) struct $cached { $($(#[$cache])? $field: $ty),* }

        impl Text for $plain {
            const NAME: &'static str = $name;

            fn many(entries: u64) -> Vec<Self> {
                $make(entries, |($($field),*)| Self { $($field),* })
            }
        }

        impl Text for $cached {
            const NAME: &'static str = $name;

            fn many(entries: u64) -> Vec<Self> {
                $make(entries, |($($field),*)| Self { $($field),* })
            }
        }
    };
}

text!(Person, CachedPerson, "people", {
    id: u64,
    #[unicache(size(100))]
    first_name: String,
    #[unicache(size(100), cache(lfu))]
    last_name: String,
    #[unicache(size(50))]
    job: String,
}, people);

text!(Visit, CachedVisit, "web log", {
    at: u64,
    #[unicache(encoding(u16), size(2000))]
    client: String,
    #[unicache]
    method: String,
    #[unicache(encoding(u16), size(1000), cache(lfu))]
    page: String,
    #[unicache]
    status: u16,
    bytes: u32,
    #[unicache]
    agent: String,
}, visits);

fn people<T>(entries: u64, make: impl Fn((u64, String, String, String)) -> T) -> Vec<T> {
    let firsts: Vec<&str> = FIRST_NAMES.split_whitespace().collect();
    let lasts: Vec<&str> = LAST_NAMES.split_whitespace().collect();
    let jobs: Vec<&str> = JOBS.split(',').map(str::trim).collect();
    let zipfs = [firsts.len(), lasts.len(), jobs.len()].map(Zipf::of);
    let mut dice = Dice(1);
    (0..entries)
        .map(|id| {
            let [first, last, job] = [&zipfs[0], &zipfs[1], &zipfs[2]].map(|z| z.roll(&mut dice));
            make((id, firsts[first].into(), lasts[last].into(), jobs[job].into()))
        })
        .collect()
}

type VisitFields = (u64, String, String, String, u16, u32, String);

/// 10,000 clients, 3,000 pages: more than the caches hold.
fn visits<T>(entries: u64, make: impl Fn(VisitFields) -> T) -> Vec<T> {
    let (clients, pages, agents) = (Zipf::of(10_000), Zipf::of(3_000), Zipf::of(AGENTS.len()));
    let mut dice = Dice(2);
    (0..entries)
        .map(|number| {
            let client = clients.roll(&mut dice) as u64 * 2_654_435_761;
            let octets = [24, 16, 8, 0].map(|shift| (client >> shift) as u8);
            let client = format!("{}.{}.{}.{}", octets[0], octets[1], octets[2], octets[3]);
            let page = pages.roll(&mut dice);
            let sections = ["articles", "products", "images", "static/css", "api/v1/items"];
            let page_of = format!("/{}/{}", sections[page % sections.len()], 1000 + page);
            let method = if dice.roll(20) == 0 { "POST" } else { "GET" };
            let status = [200, 200, 200, 200, 200, 200, 304, 304, 404, 500][dice.roll(10) as usize];
            let (bytes, agent) = (dice.roll(60_000) as u32, AGENTS[agents.roll(&mut dice)]);
            let at = 1_700_000_000_000 + number * 37;
            make((at, client, method.into(), page_of, status, bytes, agent.into()))
        })
        .collect()
}
