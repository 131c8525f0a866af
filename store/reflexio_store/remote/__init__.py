"""A Reflexio server as a home of the record, over HTTP. Imported only when such a home is opened."""
