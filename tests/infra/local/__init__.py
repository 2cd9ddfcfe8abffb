"""Tests of set-up, supervisor and demo."""
