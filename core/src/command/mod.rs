//! stub: the command table
