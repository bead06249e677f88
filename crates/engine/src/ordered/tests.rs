//! Beside the standard library's maps.

use super::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn does_as_the_standard_map_does(
        steps in proptest::collection::vec((0..6_u8, -8..8_i32, any::<u8>()), 0..200),
    ) {
        let mut ours = Map::new();
        let mut standard = BTreeMap::new();
        for (step, key, value) in steps {
            match step {
                0 | 1 => prop_assert_eq!(ours.insert(key, value), standard.insert(key, value)),
                2 => prop_assert_eq!(ours.remove(&key), standard.remove(&key)),
                3 => prop_assert_eq!(ours.pop_first(), standard.pop_first()),
                4 => {
                    let made = *ours.get_or_insert_with(key, || value);
                    prop_assert_eq!(made, *standard.entry(key).or_insert(value));
                }
                _ => {
                    ours.retain(|key, seen| { *seen ^= 1; (*seen ^ value) & 3 != 0 || key == 0 });
                    standard.retain(|key, seen| { *seen ^= 1; (*seen ^ value) & 3 != 0 || *key == 0 });
                }
            }
            prop_assert_eq!(ours.len(), standard.len());
            prop_assert_eq!(ours.get(&key), standard.get(&key));
            prop_assert_eq!(ours.contains_key(&key), standard.contains_key(&key));
            prop_assert!(ours.iter().eq(standard.iter().map(|(&key, value)| (key, value))));
            prop_assert_eq!(ours.first_key_value(), standard.first_key_value().map(|(&k, v)| (k, v)));
            let mut values: Vec<_> = ours.values().copied().collect();
            let mut expected: Vec<_> = standard.values().copied().collect();
            values.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(values, expected);
        }
    }

    #[test]
    fn words_are_in_the_order_of_the_keys(a: i32, b: i32, c in (0..4_u8, 0..4_u64), d in (0..4_u8, 0..4_u64)) {
        prop_assert_eq!(a.cmp(&b), a.word().cmp(&b.word()));
        prop_assert_eq!(c.cmp(&d), c.word().cmp(&d.word()));
    }
}

/// So large that a piece holds four.
type Large = [u64; PIECE_BYTES / 32];

#[test]
fn a_map_of_many_pieces_does_as_the_standard_map_does() {
    let (mut ours, mut standard) = (Map::new(), BTreeMap::new());
    let mut number = 1_u32;
    for step in 0..400 {
        // Numbers in no order, fewer from the middle on.
        number = number.wrapping_mul(0x9e37_79b1) ^ step;
        let key = number >> 27;
        if number & 0x300 != 0 && (step < 200) == (number & 0xc00 != 0) {
            assert_eq!(
                ours.insert(key, [u64::from(step); PIECE_BYTES / 32]).map(|v| v[0]),
                standard.insert(key, step).map(u64::from)
            );
        } else {
            ours.try_reserve().expect("there is memory");
            assert_eq!(ours.remove(&key).map(|v: Large| v[0]), standard.remove(&key).map(u64::from));
        }
        assert_eq!(ours.len(), standard.len());
        let all: Vec<_> = ours.iter().map(|(key, v)| (key, v[0] as u32)).collect();
        assert!(all.into_iter().eq(standard.iter().map(|(&key, &v)| (key, v))));
        assert_eq!(ours.keys().into_iter().count(), standard.len());
    }
}

#[test]
fn a_set_gives_each_member_once_and_in_order() {
    let mut set: Set<i32> = [3, -1, 2, 3].into_iter().collect();
    assert!(!set.insert(2) && !set.is_empty());
    set.extend([5, 0]);
    assert!(set.remove(&3) && !set.remove(&3));
    assert!(set.into_iter().eq([-1, 0, 2, 5]));
}
