"""What bytes mean, before anybody asks who signed them.

    canonical     the one canonical form of JSON, and the strict parser
    strict_json   frozen dataclasses to and from JSON with exact keys and checked words
    envelope      DSSE: a payload and two signatures of each pair; knows a pair by two methods
    intoto        statements: a predicate about files by digest

Whatever is signed has one byte form. Sizes and depth are judged before a parser runs; an unknown
field, a doubled key and a number with a fraction are refused. All refusals are Untrusted.
"""
