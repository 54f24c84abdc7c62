"""What the tests share: servers, images, builders."""
