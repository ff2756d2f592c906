"""The archive's own tests of searches, with each search sent to a service that holds the archive."""

from tests.archive.search.test_search import (  # noqa: F401
    test_a_search_as_of_any_generation,
    test_an_empty_archive_answers_nothing,
    test_an_image_as_query_finds_its_stored_twin,
    test_every_mode_equals_the_naive_search,
    test_groups_show_the_best_image_and_the_others_behind_it,
    test_json_has_the_documented_keys,
    test_many_queries_at_once_answer_as_one_by_one,
    test_no_file_name_is_shown_unless_a_title_is_given,
    test_no_match_for_a_filter_says_what_there_is,
    test_the_stored_query_itself_is_found_only_on_request,
    test_ties_beyond_the_last_hit_are_ordered_by_content_then_id,
)
